// What the cores ask for, carried out.

#include <fmt/format.h>

#include "db/base/match.h"
#include "tools/daemon/node.h"

namespace tdbmesh {
namespace {

LogLevel log_level(recovery::LogLine::Level level) {
  switch (level) {
    case recovery::LogLine::Level::Debug: return LogLevel::Debug;
    case recovery::LogLine::Level::Info: return LogLevel::Notice;
    case recovery::LogLine::Level::Warning: return LogLevel::Warning;
    case recovery::LogLine::Level::Error: return LogLevel::Error;
  }
  return LogLevel::Notice;
}

}  // namespace

void Node::run(RecordActions actions) {
  for (RecordAction& action : actions) {
    std::visit(Match{
                   [&](SendRecord& a) {
                     ++statistics_.node_packets_sent;
                     env_.link().send(a.to, MessageKind::Record, encode_record_message(a.message));
                   },
                   [&](AnswerCall& a) { answer_call(a); },
                   [&](WaitChain& a) {
                     ++statistics_.locks.calls;
                     env_.wait_chain(a.database, std::move(a.key));
                   },
                   [&](Bump& a) {
                     env_.log(LogLevel::Warning, fmt::format("records need a new view: {}", a.reason));
                     recovery::Actions out;
                     if (a.peer == self()) {
                       control_.report_member(self(), a.reason, now_, out);  // the own store cannot be read
                     } else {
                       control_.request_bump(a.reason, now_, out);
                     }
                     run(std::move(out));
                   },
               },
               action);
  }
}

void Node::run(CommitActions actions) {
  for (CommitAction& action : actions) {
    std::visit(Match{
                   [&](SendCommit& a) {
                     ++statistics_.node_packets_sent;
                     env_.link().send(a.to, MessageKind::Commit, encode_commit_message(a.message));
                   },
                   [&](SubmitChange& a) { env_.commit_worker().submit(a.ticket, std::move(a.change)); },
                   [&](CommitAnswer& a) { answer_commit(a); },
                   [&](CopiesKnown& a) { catch_up_copies(a); },
                   [&](Settled& a) {
                     if (catching_up_ && catching_up_->fetching == a.database) return catch_up_settled({});
                     const Generation generation = settling_[a.database];
                     settling_.erase(a.database);
                     recovery::Actions out;
                     control_.on_settled(generation, a.database, true, {}, now_, out);
                     run(std::move(out));
                   },
                   [&](SettleFailed& a) {
                     if (catching_up_ && catching_up_->fetching == a.database) return catch_up_settled(a.reason);
                     const Generation generation = settling_[a.database];
                     settling_.erase(a.database);
                     recovery::Actions out;
                     control_.on_settled(generation, a.database, false, a.reason, now_, out);
                     run(std::move(out));
                   },
                   [&](CommitTrouble& a) {
                     env_.log(LogLevel::Warning, fmt::format("commits need a new view: {}", a.reason));
                     recovery::Actions out;
                     if (a.peer) {
                       control_.report_member(*a.peer, a.reason, now_, out);
                     } else {
                       control_.request_bump(a.reason, now_, out);
                     }
                     run(std::move(out));
                   },
               },
               action);
  }
}

void Node::run(recovery::Actions actions) {
  for (recovery::Action& action : actions) control_actions_.push_back(std::move(action));
  if (carrying_out_) return;
  carrying_out_ = true;
  while (!control_actions_.empty()) {
    recovery::Action action = std::move(control_actions_.front());
    control_actions_.pop_front();
    carry_out(action);
  }
  carrying_out_ = false;
}

void Node::carry_out(recovery::Action& action) {
  std::visit(
      Match{
          [&](recovery::SendControl& a) {
            ++statistics_.node_packets_sent;
            env_.link().send(a.to, MessageKind::Control, std::move(a.bytes));
          },
          [&](recovery::Persist& a) { env_.persist(a.ticket, std::move(a.state)); },
          [&](recovery::SetSupport& a) {
            env_.with_heartbeats([&](HeartbeatCore& core) { core.set_support(std::move(a.table)); });
          },
          [&](recovery::SetVoters& a) {
            env_.with_heartbeats([&](HeartbeatCore& core) { core.set_voters(std::move(a.rule)); });
          },
          [&](recovery::Announce& a) {
            env_.with_heartbeats([&](HeartbeatCore& core) { core.set_announcement(std::move(a.said)); });
          },
          [&](recovery::CloseGate&) {
            gate_permitted_ = false;
            env_.close_gate();
            look_at_gate();
          },
          [&](recovery::PermitGate&) {
            gate_permitted_ = true;
            if (leave_) return;  // the clients stay shut out
            const View* view = control_.accepted_view();
            env_.permit_gate(view == nullptr ? Generation{} : view->generation);
          },
          [&](recovery::DropAddresses&) { addresses_.drop("this node is out of the view"); },
          [&](recovery::DropVolatile& a) {
            env_.log(LogLevel::Notice, "this node left the view: volatile databases are emptied, clients disconnected");
            // What they hold belongs to a life of the cluster that went on without us. A tool that only asks stays:
            // it may be the one that waits for the end of the stop it asked for.
            for (const ClientId client : clients_.database_users()) env_.close_client(client);
            drops_asked_.push_back(a.ticket);  // the view that comes with it makes them empty; see end_turn()
          },
          [&](recovery::PrepareView& a) {
            if (recovery_finished_ >= recovery_started_) recovery_started_ = env_.wall_clock();
            NodeHealth::Actions health;
            health_.view_change_began(health);
            run(health);
            settling_.clear();
            catching_up_.reset();
            restore_.abandon();
            addresses_.prepare(a.view);
            records_.prepare(a.view, a.continuity_broken, now_);
            commits_.prepare(a.view, a.continuity_broken, now_);
          },
          [&](recovery::AskCopies& a) {
            copies_asked_.push_back(a.generation);
            report_copies_if_quiet();
          },
          [&](recovery::SettleCopy& a) {
            const auto opened = attachments_.open(a.what.name, a.what.kind);
            if (!opened) {
              recovery::Actions out;
              control_.on_settled(a.what.generation, a.what.db, false, opened.error().context, now_, out);
              return run(std::move(out));
            }
            env_.log(LogLevel::Notice, fmt::format("fetching database {} from node {}: it has sequence number {}",
                                                   a.what.name, to_string(a.what.source), a.what.version.seqnum));
            settling_[a.what.db] = a.what.generation;
            run(commits_.settle(a.what.db, a.what.source, a.what.version, now_));
          },
          [&](recovery::CatchUp& a) { begin_catch_up(a.source); },
          [&](recovery::InstallView& a) {
            install(a.view);
            look_at_peers();
          },
          [&](recovery::BecameLeader& a) {
            env_.log(LogLevel::Notice, fmt::format("this node is the leader now (term {})", a.term));
          },
          [&](recovery::LostLeader& a) {
            env_.log(LogLevel::Notice, fmt::format("this node is no longer the leader: {}", a.why));
            addresses_.lost_leader();
          },
          [&](recovery::ViewInstalledByAll& a) {
            for (const Pnn peer : connected()) send_message(peer, ctdb::kSrvidReconfigure, {});
            addresses_.installed_by_all(a.view.generation);
          },
          [&](recovery::LeaderChanged& a) {
            if (a.leader != kNoPnn) await_view();  // it takes this node in, if it can
            env_.log(LogLevel::Notice, a.leader == kNoPnn
                                           ? std::string("no leader is known")
                                           : fmt::format("node {} is the leader", to_string(a.leader)));
          },
          [&](recovery::LockTry& a) { env_.try_cluster_lock(a.record); },
          [&](recovery::LockRelease&) { env_.release_cluster_lock(); },
          [&](recovery::LogLine& a) { env_.log(log_level(a.level), a.text); },
          [&](recovery::ShutdownReady&) { env_.exit(); },
      },
      action);
  look_at_serving();
}

void Node::install(const View& view) {
  // A member that has just started may not have been heard here yet. What is sent to it in this view must not pass for
  // something that was queued for its earlier life.
  for (const Member& member : view.members) {
    if (member.pnn != self()) env_.link().note_incarnation(member.pnn, member.incarnation);
  }
  // What the members have attached travels ahead of the first record message of this view.
  attachments_.view_installed();
  detaches_.view_installed();
  run(records_.install(view, now_));
  run(commits_.install(view, now_));
  traverses_.members_changed();
  settle_questions(view);
  addresses_.install(view);
  ++statistics_.num_recoveries;
  recovery_finished_ = env_.wall_clock();
  note_view(view);
  NodeHealth::Actions health;
  health_.view_in_use(health);
  run(health);
  std::string who;
  for (const Member& member : view.members) who += (who.empty() ? "" : " ") + to_string(member.pnn);
  env_.log(LogLevel::Notice, fmt::format("view {} is in use: nodes {}, leader {}, generation {}",
                                         to_string(view.generation), who, to_string(view.leader),
                                         client_generation(view.generation)));
}

// Who is left out is fenced: its processes count as dead now. A member that was restarted has never heard what was
// asked before.
void Node::settle_questions(const View& view) {
  std::vector<Pnn> in_view;
  for (const Member& member : view.members) in_view.push_back(member.pnn);
  for (const RemoteControls::Pending& pending : remote_controls_.left_out(in_view)) {
    reply(pending.reply, -1, {}, "node is disconnected");
  }
  for (const Pnn pnn : in_view) ask_again(pnn);
}

void Node::report_copies_if_quiet() {
  // What could not be emptied yet would be a second owner's once the view is in use: PREPARED waits for it.
  if (copies_asked_.empty() || !commits_.quiet() || !records_.emptied()) return;
  if (!open_what_is_on_disk()) {
    // Whoever leads waits for all members; it cannot wait for itself.
    if (!control_.leading() || reported_disk_ == disk_trouble_) return;
    reported_disk_ = disk_trouble_;
    recovery::Actions out;
    control_.report_member(self(), disk_trouble_, now_, out);
    return run(std::move(out));
  }
  std::vector<recovery::CopyReport> copies;
  for (const auto& [id, version] : commits_.versions()) {
    const Database* database = databases_.database(id);
    if (database == nullptr) continue;
    copies.push_back({id, database->name(), database->kind(), version});
  }
  const std::vector<Generation> asked = std::move(copies_asked_);
  copies_asked_.clear();
  for (const Generation generation : asked) {
    recovery::Actions out;
    control_.on_copies(generation, copies, records_.incomplete_slots(), now_, out);
    run(std::move(out));
  }
}

void Node::report_dropped_if_empty() {
  if (drops_asked_.empty() || !records_.emptied()) return;
  const std::vector<std::uint64_t> asked = std::move(drops_asked_);
  drops_asked_.clear();
  for (const std::uint64_t ticket : asked) {
    recovery::Actions out;
    control_.on_volatile_dropped(ticket, now_, out);
    run(std::move(out));
  }
}

void Node::answer_call(AnswerCall& answer) {
  const auto at = calls_.find(answer.call);
  if (at == calls_.end()) return;
  const OpenCall call = at->second;
  calls_.erase(at);
  statistics_.pending_calls = static_cast<std::uint32_t>(calls_.size());
  statistics_.call_latency.add(std::chrono::duration<double>(now_ - call.since).count());
  if (answer.status != 0) {
    env_.log(LogLevel::Error, fmt::format("call on database {}: {}", to_string(call.database), answer.text));
    return fail_call(call.client, call.header, answer.text);
  }
  reply_to_call(call.client, call.header, call.callid, answer.header, answer.value);
}

void Node::answer_commit(const CommitAnswer& answer) {
  const auto at = commit_replies_.find(answer.id);
  if (at == commit_replies_.end()) return;
  const ReplyTo to = at->second;
  commit_replies_.erase(at);
  reply(to, answer.status, {}, answer.text);
}

}  // namespace tdbmesh
