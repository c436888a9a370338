#include "tools/daemon/node_addresses.h"

#include <fmt/format.h>

#include <algorithm>

#include "db/base/match.h"
#include "ipfailover/decision_log.h"
#include "transport/ctdb_controls.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh {

using namespace ipfailover;

namespace {

constexpr std::size_t kMaxTakeoverRuns = 100;
constexpr Duration kTakeoverRunPatience = seconds(10);  // `ctdb` asks again after its time limit, 10 s unless told

std::vector<PublicAddress> public_addresses(const NodeConfig& config) {
  std::vector<PublicAddress> all;
  for (const ConfiguredAddress& a : config.public_addresses) {
    all.push_back({host_only(a.address), static_cast<std::uint8_t>(a.mask_bits), a.interfaces});
  }
  return all;
}

}  // namespace

NodeAddresses::NodeAddresses(const NodeConfig& config, NodeEnvironment& env, NodeServices& services,
                             const recovery::ControlPlane& control, const ctdb::Tunables& tunables)
    : config_(config),
      env_(env),
      services_(services),
      control_(control),
      tunables_(tunables),
      kernel_(env.address_kernel()),
      // Where nothing can be taken, nothing is offered.
      holder_(kernel_ != nullptr ? public_addresses(config) : std::vector<PublicAddress>{}),
      assigner_(config.self(), config.control.timing.release_limit) {
  for (const auto& [address, home] : config.home_nodes) assigner_settings_.homes[address] = home;
}

// ---- events of the node ------------------------------------------------------------------------------------------

void NodeAddresses::start() {
  if (kernel_ == nullptr) {
    if (!config_.public_addresses.empty()) {
      env_.log(LogLevel::Warning, "public addresses are configured, but this daemon cannot host any");
    }
    return;
  }
  HolderActions out;
  holder_.start(out);
  run(std::move(out));
}

void NodeAddresses::prepare(const View&) {
  holder_.prepare();
  assigner_.stop();
}

void NodeAddresses::install(const View& view) {
  fail_moves("the cluster changed in between: try again");
  for (const auto& [token, unfinished] : runs_) runs_to_begin_.push_back(unfinished);
  runs_.clear();
  if (view.leader == config_.self()) {
    assigner_.begin(view);
  } else {
    assigner_.stop();
  }
  HolderActions out;
  holder_.set_no_takeover(tunables_[ctdb::Tunable::NoIPTakeover] != 0, out);
  holder_.set_flags(control_.own_flags(), out);
  out.clear();  // install() reports all of it
  holder_.install(view.generation, out);
  run(std::move(out));
  // Newcomers know nothing of the connections to what stands here.
  for (const PublicAddress& a : holder_.configured()) {
    if (holder_.hosts(a.address) && !tickles_.of(a.address).empty()) changed_tickles_.insert(a.address);
  }
  if (!changed_tickles_.empty()) push_tickles();
}

void NodeAddresses::installed_by_all(Generation generation) {
  update_assigner();
  AssignerActions out;
  assigner_.all_installed(generation, services_.now(), out);
  run(std::move(out));
  begin_takeover_runs();
}

void NodeAddresses::lost_leader() { assigner_.stop(); }

void NodeAddresses::drop(const std::string& why) {
  if (kernel_ == nullptr) return;
  HolderActions out;
  holder_.drop(why, out);
  run(std::move(out));
}

void NodeAddresses::gate_changed(bool open) {
  const bool lapsed = gate_open_ && !open;
  gate_open_ = open;
  if (lapsed && !holder_.empty()) drop("the lease of this node has lapsed");
  if (!open) return;
  HolderActions out;
  holder_.gate_opened(out);
  run(std::move(out));
}

void NodeAddresses::on_message(Pnn from, BytesView body) {
  const auto message = decode_takeover_message(body);
  if (!message) {
    env_.log(LogLevel::Warning, fmt::format("node {}: {}", to_string(from), message.error().context));
    return;
  }
  handle(from, *message);
  pump();
}

void NodeAddresses::on_kernel(const KernelEvent& event) {
  HolderActions out;
  holder_.on_kernel(event, out);
  run(std::move(out));
  look_at_leaving();
}

void NodeAddresses::end_turn() {
  if (kernel_ != nullptr) {
    const Instant until = env_.gate_until();
    if (until != renewed_ && until > services_.now()) {
      renewed_ = until;
      kernel_->renew(until);
    }
    HolderActions out;
    holder_.set_no_takeover(tunables_[ctdb::Tunable::NoIPTakeover] != 0, out);
    holder_.set_flags(control_.own_flags(), out);
    if (holder_.next_wake() <= services_.now()) holder_.tick(services_.now(), out);
    run(std::move(out));
    look_at_leaving();
  }
  update_assigner();
  if (assigner_.next_wake() <= services_.now()) {
    AssignerActions out;
    assigner_.tick(services_.now(), out);
    run(std::move(out));
  }
  if (push_tickles_at_ <= services_.now()) push_tickles();
}

Instant NodeAddresses::next_wake() const {
  return std::min({holder_.next_wake(), assigner_.next_wake(), push_tickles_at_, leave_by_});
}

void NodeAddresses::update_assigner() {
  const View* view = control_.installed_view();
  if (view == nullptr || view->leader != config_.self()) return;
  AssignerSettings& settings = assigner_settings_;
  settings.policy = policy_of_tunable(tunables_[ctdb::Tunable::IPAllocAlgorithm]);
  settings.no_failback = tunables_[ctdb::Tunable::NoIPFailback] != 0;
  settings.host_on_all_disabled = tunables_[ctdb::Tunable::NoIPHostOnAllDisabled] == 0;
  settings.configured_nodes = config_.nodes.size();
  AssignerActions out;
  assigner_.update(settings, services_.now(), out);
  run(std::move(out));
}

// ---- what the cores ask for ----------------------------------------------------------------------------------------

void NodeAddresses::run(HolderActions actions) {
  for (HolderAction& action : actions) {
    std::visit(Match{
                   [&](SayToLeader& a) {
                     const View* view = control_.installed_view();
                     if (view != nullptr && view->generation == generation_of(a.message)) send(view->leader, a.message);
                   },
                   [&](KernelConfigure& a) { kernel_->configure(a.addresses); },
                   [&](KernelTake& a) {
                     env_.log(LogLevel::Notice, fmt::format("addresses: taking {} on {}", ctdb::to_string(a.address), a.interface));
                     kernel_->take({a.ticket, a.address, a.prefix, a.interface, env_.gate_until()});
                   },
                   [&](KernelRelease& a) {
                     env_.log(LogLevel::Notice, fmt::format("addresses: releasing {}", ctdb::to_string(a.address)));
                     kernel_->release(a.ticket, a.address);
                   },
                   [&](KernelDropAll& a) { kernel_->drop_all(a.ticket); },
                   [&](Hosted& a) { hosted(a); },
                   [&](Unhosted& a) { unhosted(a); },
                   [&](ReallocationStarts&) { start_ipreallocate([] {}); },
                   [&](Reallocated&) {
                     services_.run_event(plain_event(EventKind::IpReallocated), [this](const EventResult&) {
                       services_.deliver(ctdb::kSrvidIpreallocated, {});
                     });
                   },
                   [&](HolderLog& a) {
                     env_.log(a.warning ? LogLevel::Warning : LogLevel::Notice, "addresses: " + a.text);
                   },
               },
               action);
  }
  pump();
}

void NodeAddresses::start_ipreallocate(std::function<void()> then) {
  services_.run_event(plain_event(EventKind::StartIpReallocate), [this, then = std::move(then)](const EventResult&) {
    services_.deliver(ctdb::kSrvidStartIpreallocate, {});
    then();
  });
}

void NodeAddresses::run(AssignerActions actions) {
  for (AssignerAction& action : actions) {
    std::visit(Match{
                   [&](SendTakeover& a) {
                     send(a.to, a.message);
                   },
                   [&](LeaveOut& a) { services_.leave_out(a.pnn, a.reason); },
                   [&](RunEnded& a) {
                     const auto at = runs_.find(a.token);
                     if (at == runs_.end()) return;
                     const ctdb::SrvidMessage asked = at->second.asked;
                     runs_.erase(at);
                     if (asked.srvid == Srvid{}) return;
                     services_.send_message(asked.pnn, asked.srvid,
                                            ctdb::encode_i32(static_cast<std::int32_t>(number(config_.self()))));
                   },
                   [&](AssignerLog& a) {
                     env_.log(a.warning ? LogLevel::Warning : LogLevel::Notice, "addresses: " + a.text);
                   },
                   [&](AssignerDecision& a) {
                     const Pnn before = holder_.host_of(a.address);
                     note(a.address, before == kNoPnn ? a.text : fmt::format("{} (so far: node {})", a.text, to_string(before)));
                   },
               },
               action);
  }
  pump();
}

void NodeAddresses::send(Pnn to, const TakeoverMessage& message) {
  if (to == config_.self()) {
    to_self_.push_back(message);
    return;
  }
  env_.link().send(to, MessageKind::Address, encode(message));
}

// Messages to oneself are handled after what sent them, never inside it.
void NodeAddresses::pump() {
  if (pumping_) return;
  pumping_ = true;
  while (!to_self_.empty()) {
    const TakeoverMessage message = std::move(to_self_.front());
    to_self_.pop_front();
    handle(config_.self(), message);
  }
  pumping_ = false;
}

void NodeAddresses::handle(Pnn from, const TakeoverMessage& message) {
  const View* view = control_.installed_view();
  if (const auto* answer = std::get_if<MoveAnswer>(&message)) {
    const auto at = moves_.find(answer->id);
    if (at == moves_.end()) return;
    const ReplyTo to = at->second;
    moves_.erase(at);
    return services_.reply(to, answer->error.empty() ? 0 : -1, {}, answer->error);
  }
  const bool from_leader = std::holds_alternative<TakeAddress>(message) || std::holds_alternative<ReleaseAddress>(message) ||
                           std::holds_alternative<RunStarts>(message) || std::holds_alternative<HostTable>(message);
  if (from_leader) {
    if (view == nullptr || from != view->leader) return;
    HolderActions out;
    holder_.on_message(message, gate_open_ && env_.gate_until() > services_.now(), out);
    return run(std::move(out));
  }
  AssignerActions out;
  assigner_.on_message(from, message, services_.now(), out);
  run(std::move(out));
}

void NodeAddresses::hosted(const Hosted& what) {
  const Address& address = what.what.address;
  const std::string text = ctdb::to_string(address);
  if (!what.before.empty()) {
    note(address, fmt::format("moved from {} to {} here", what.before, what.interface));
    return services_.run_event(update_ip_event(what.before, what.interface, text, what.what.prefix), nullptr);
  }
  note(address, fmt::format("stands on {} here", what.interface));
  // Those connections ended with their server; its clients must learn it. Then they are history.
  const std::vector<ctdb::Connection> connections = tickles_.of(address);
  if (!connections.empty()) {
    kernel_->send_tickles(connections);
    tickles_.clear(address);
    changed_tickles_.insert(address);
    push_tickles_at_ = std::min(push_tickles_at_, services_.now() + seconds(1));
  }
  services_.run_event(take_ip_event(what.interface, text, what.what.prefix), [this, text](const EventResult& result) {
    if (!result.ok()) env_.log(LogLevel::Warning, fmt::format("event takeip of {}: {} failed", text, result.script));
    services_.deliver(ctdb::kSrvidTakeIp, ctdb::encode_text(text));
  });
}

void NodeAddresses::unhosted(const Unhosted& what) {
  const std::string text = ctdb::to_string(what.what.address);
  note(what.what.address, fmt::format("is gone from {} here", what.interface));
  // CTDB tells its clients after the script. The address is off the kernel and its connections are destroyed already:
  // the sooner smbd knows, the better.
  services_.deliver(ctdb::kSrvidReleaseIp, ctdb::encode_text(text));
  services_.run_event(release_ip_event(what.interface, text, what.what.prefix), nullptr);
}

void NodeAddresses::note(const Address& address, const std::string& text) {
  const std::string name = ctdb::to_string(address);
  env_.log(LogLevel::Notice, fmt::format("addresses: {} {}", name, text));
  services_.note(DecisionLog::ip(name), text);
}

// ---- leaving --------------------------------------------------------------------------------------------------------

void NodeAddresses::leave(bool for_good, std::function<void()> then) {
  for_good_ = for_good_ || for_good;
  if (kernel_ == nullptr || holder_.configured().empty()) return then();
  leaving_.push_back({for_good, std::move(then)});
  if (leave_by_ == kNever) {
    leave_by_ = services_.now() + config_.control.timing.release_limit;
    dropped_to_leave_ = false;
    HolderActions out;
    holder_.set_leaving(true, out);
    run(std::move(out));
  }
  look_at_leaving();
}

void NodeAddresses::stay() {
  std::erase_if(leaving_, [](const Leave& l) { return !l.for_good; });
  if (!leaving_.empty() || for_good_ || !holder_.leaving()) return;
  leave_by_ = kNever;
  HolderActions out;
  holder_.set_leaving(false, out);
  run(std::move(out));
}

void NodeAddresses::look_at_leaving() {
  if (leaving_.empty()) return;
  const bool late = leave_by_ <= services_.now();
  // Nobody can relieve this node: it puts them down itself.
  const bool alone = control_.installed_view() == nullptr || control_.leader() == kNoPnn;
  if (!holder_.empty() && !dropped_to_leave_ && (late || alone)) {
    dropped_to_leave_ = true;
    leave_by_ = services_.now() + config_.control.timing.release_limit;
    drop("this node leaves and nobody took them over in time");
  }
  if (!holder_.empty() && !(dropped_to_leave_ && leave_by_ <= services_.now())) return;
  leave_by_ = kNever;
  const std::vector<Leave> leaves = std::exchange(leaving_, {});
  for (const Leave& l : leaves) l.then();
}

// ---- the operator -----------------------------------------------------------------------------------------------------

Pnn NodeAddresses::host_of(const Address& address) const {
  if (holder_.hosts(address)) return config_.self();
  const Pnn known = holder_.host_of(address);
  return known == config_.self() ? kNoPnn : known;
}

void NodeAddresses::move(const Address& address, Pnn to, const ReplyTo& reply) {
  const View* view = control_.installed_view();
  if (view == nullptr) return services_.reply(reply, -1, {}, "this node is in no cluster now");
  const std::uint64_t id = ++last_id_;
  moves_[id] = reply;
  send(view->leader, MoveWish{view->generation, id, host_only(address), to});
  pump();
}

void NodeAddresses::fail_moves(const std::string& why) {
  const auto moves = std::exchange(moves_, {});
  for (const auto& [id, reply] : moves) services_.reply(reply, -1, {}, why);
}

void NodeAddresses::takeover_run(const ctdb::SrvidMessage& asked) {
  if (runs_to_begin_.size() == kMaxTakeoverRuns) runs_to_begin_.pop_front();
  runs_to_begin_.push_back({asked, services_.now() + kTakeoverRunPatience});
  begin_takeover_runs();
}

void NodeAddresses::begin_takeover_runs() {
  while (!runs_to_begin_.empty()) {
    const TakeoverRun next = runs_to_begin_.front();
    const bool awaited = next.until > services_.now();
    AssignerActions out;
    if (awaited && !assigner_.start_run(++last_id_, services_.now(), out)) return;  // does not lead, or not yet
    runs_to_begin_.pop_front();
    if (awaited) runs_[last_id_] = next;
    run(std::move(out));
  }
}

void NodeAddresses::reconfigure(std::vector<PublicAddress> addresses) {
  if (kernel_ == nullptr) return;
  HolderActions out;
  holder_.reconfigure(std::move(addresses), out);
  run(std::move(out));
}

bool NodeAddresses::set_link(const std::string& interface, bool up) {
  HolderActions out;
  const bool known = holder_.set_link(interface, up, out);
  run(std::move(out));
  return known;
}

bool NodeAddresses::announce(const Address& address, const std::string& interface) {
  if (kernel_ == nullptr) return false;
  kernel_->announce(host_only(address), interface);
  return true;
}

// ---- tickle lists -------------------------------------------------------------------------------------------------------

std::int32_t NodeAddresses::client_connected(ClientId client, const ctdb::Connection& connection) {
  if (holder_.find(connection.server) == nullptr) return 0;
  if (!holder_.hosts(connection.server)) return -1;
  of_clients_[client].insert(connection);
  add_tickle(connection, true);
  return 0;
}

void NodeAddresses::client_disconnected(ClientId client, const ctdb::Connection& connection, bool keep_tickle) {
  const auto at = of_clients_.find(client);
  if (at == of_clients_.end() || at->second.erase(connection) == 0) return;
  if (!keep_tickle && holder_.hosts(connection.server)) remove_tickle(connection, true);
}

void NodeAddresses::on_client_gone(ClientId client) {
  const auto at = of_clients_.find(client);
  if (at == of_clients_.end()) return;
  const std::set<ctdb::Connection> connections = std::move(at->second);
  of_clients_.erase(at);
  for (const ctdb::Connection& c : connections) {
    // Of an address that went elsewhere the new host needs it.
    if (holder_.hosts(c.server)) remove_tickle(c, true);
  }
}

void NodeAddresses::tell_connection(ctdb::ControlOpcode opcode, const ctdb::Connection& connection) {
  RelayControl relay;
  relay.opcode = static_cast<std::uint32_t>(opcode);
  relay.flags = ctdb::kControlNoReply;
  relay.data = encode(connection);
  for (const Pnn peer : services_.connected()) {
    if (peer != config_.self()) services_.send_relay(peer, relay);
  }
}

void NodeAddresses::add_tickle(const ctdb::Connection& connection, bool tell_others) {
  if (tickles_.add(connection) && tell_others) tell_connection(ctdb::ControlOpcode::TcpAdd, connection);
}

void NodeAddresses::remove_tickle(const ctdb::Connection& connection, bool tell_others) {
  if (tickles_.remove(connection) && tell_others) tell_connection(ctdb::ControlOpcode::TcpRemove, connection);
}

void NodeAddresses::replace_tickles(const ctdb::TickleList& list) {
  const Address address = host_only(list.address);
  if (!holder_.hosts(address)) tickles_.replace(address, list.connections);
}

// The host's word on its list, for those who missed something.
void NodeAddresses::push_tickles() {
  push_tickles_at_ = kNever;
  for (const Address& address : std::exchange(changed_tickles_, {})) {
    if (!holder_.hosts(address)) continue;
    RelayControl relay;
    relay.opcode = static_cast<std::uint32_t>(ctdb::ControlOpcode::SetTcpTickleList);
    relay.flags = ctdb::kControlNoReply;
    relay.data = encode(ctdb::TickleList{address, tickles_.of(address)});
    for (const Pnn peer : services_.connected()) {
      if (peer != config_.self()) services_.send_relay(peer, relay);
    }
  }
}

}  // namespace tdbmesh
