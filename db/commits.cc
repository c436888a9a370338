#include "db/commits.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "db/base/match.h"
#include "db/base/plants.h"

namespace tdbmesh {

namespace {

constexpr const char* kEndedByRecovery = "trans3 commit ended by recovery";
constexpr const char* kChangedMeanwhile = "the database has changed since the transaction began";

bool shared_everywhere(const Database& database) { return database.kind() != DatabaseKind::Volatile; }

// The sequence number travels as the last record of every change, so that clients read from their own copy
// what the commit order is.
void set_sequence_number(std::vector<RecordEntry>& entries, std::uint64_t seqnum, Pnn origin) {
  std::erase_if(entries, [](const RecordEntry& entry) { return entry.key == kSequenceNumberKey; });
  ByteWriter value;
  value.put(seqnum);
  entries.push_back(RecordEntry{0, Bytes(kSequenceNumberKey), RecordHeader{seqnum, origin, 0},
                                std::move(value).take()});
}

}  // namespace

Commits::Commits(Pnn self, CommitSettings settings) : self_(self), settings_(settings) {}

// --- databases ------------------------------------------------------------------------------------------------

CommitActions Commits::attach(Database& database, Instant now) {
  const auto [it, fresh] = databases_.try_emplace(database.id());
  if (!fresh) return {};
  it->second.database = &database;
  it->second.version = database.version();
  it->second.seqnum = it->second.version.seqnum;
  deliver_parked(now);
  return finish(now);
}

CommitActions Commits::detach(DatabaseId id) {
  std::vector<CommitId> open;
  for (const auto& [commit, local] : commits_) {
    if (local.database == id) open.push_back(commit);
  }
  for (const CommitId commit : open) answer(commit, -1, "the database was detached");
  std::erase_if(tickets_, [id](const auto& entry) { return entry.second.database == id; });
  databases_.erase(id);
  return std::exchange(actions_, {});
}

// --- the origin: commits that began here ----------------------------------------------------------------------

CommitActions Commits::client_commit(CommitId id, std::uint64_t client, RecordBuffer buffer, Instant now) {
  const auto it = databases_.find(buffer.database);
  const bool second = std::any_of(commits_.begin(), commits_.end(),
                                  [client](const auto& entry) { return entry.second.client == client; });
  if (it == databases_.end()) {
    refuse(id, "unknown database");
  } else if (second) {
    refuse(id, "this client already has a commit running");
  } else if (buffer.entries.size() >= kMaxCommitEntries) {
    refuse(id, "too many records in one commit");
  } else if (buffer.entries.empty()) {
    actions_.emplace_back(CommitAnswer{id, 0, {}});
  } else if (!shared_everywhere(*it->second.database)) {
    commit_volatile(id, *it->second.database, buffer);
  } else {
    Local local;
    local.client = client;
    local.database = buffer.database;
    local.request = commit::Request{number(id), false, sequence_number_in(buffer).value_or(0), {}};
    local.request.entries = std::move(buffer.entries);
    begin(id, std::move(local));
  }
  return finish(now);
}

CommitActions Commits::replace_all(CommitId id, DatabaseId database, std::vector<RecordEntry> entries, Instant now) {
  const auto it = databases_.find(database);
  if (it == databases_.end() || !shared_everywhere(*it->second.database)) {
    refuse(id, "not a persistent or replicated database");
  } else if (entries.size() >= kMaxCommitEntries) {
    refuse(id, "too many records in one commit");
  } else {
    Local local;
    local.database = database;
    local.request = commit::Request{number(id), true, 0, std::move(entries)};
    begin(id, std::move(local));
  }
  return finish(now);
}

void Commits::refuse(CommitId id, std::string text) {
  actions_.emplace_back(CommitAnswer{id, -1, std::move(text)});
}

void Commits::client_gone(std::uint64_t client) {
  for (auto& [id, local] : commits_) {
    if (local.client != client) continue;
    local.client.reset();
    local.wants_answer = false;
  }
}

void Commits::begin(CommitId id, Local local) {
  Local& kept = commits_.insert_or_assign(id, std::move(local)).first->second;
  if (may_commit()) send_local(id, kept);
}

void Commits::send_local(CommitId, Local& local) {
  local.sent = true;
  send(sequencer(local.database), local.database, local.request);
}

void Commits::send_held() {
  for (auto& [id, local] : commits_) {
    if (!local.sent) send_local(id, local);
  }
}

void Commits::answer(CommitId id, std::int32_t status, std::string text) {
  const auto it = commits_.find(id);
  if (it == commits_.end()) return;
  if (it->second.wants_answer) actions_.emplace_back(CommitAnswer{id, status, std::move(text)});
  commits_.erase(it);
}

// Only records that are here and ours are replaced; their headers stay, because who owns a record is not for a
// client to say.
void Commits::commit_volatile(CommitId id, Database& database, const RecordBuffer& buffer) {
  for (const RecordEntry& entry : buffer.entries) {
    if (!database.try_lock(entry.key)) return refuse(id, "a record is in use; try again");
    const auto have = database.fetch(entry.key);
    Result<void> done;
    if (!have) {
      done = tl::unexpected<Error>(have.error());
    } else if (*have && (*have)->header.dmaster == self_ && ((*have)->header.flags & kRecordHaveDelegations) == 0) {
      done = database.store(entry.key, (*have)->header, entry.value);
    }
    database.unlock(entry.key);
    if (!done) return refuse(id, done.error().context);
  }
  actions_.emplace_back(CommitAnswer{id, 0, {}});
}

CommitActions Commits::drain(bool on, Instant now) {
  draining_ = on;
  if (may_commit()) send_held();
  return finish(now);
}

bool Commits::drained() const {
  return std::none_of(commits_.begin(), commits_.end(), [](const auto& entry) { return entry.second.sent; });
}

// The settled copy has the number that this commit wanted, with other content: the client would read success.
bool Commits::number_taken_by_another(const Local& local) const {
  const auto at = databases_.find(local.database);
  const std::uint64_t wanted = local.request.seqnum;
  if (at == databases_.end() || wanted == 0 || sequence_number(local.database) != wanted) return false;
  std::map<BytesView, const RecordEntry*> last;  // of several entries with one key the last one is stored
  for (const RecordEntry& entry : local.request.entries) last[entry.key] = &entry;
  for (const auto& [key, entry] : last) {
    const auto stored = at->second.database->fetch(key);
    if (!stored) return false;
    if (!*stored || (*stored)->header != entry->header || (*stored)->value != entry->value) return true;
  }
  return false;
}

void Commits::on_done(const commit::Done& done) { answer(CommitId{done.id}, done.status, done.text); }

// --- the sequencer --------------------------------------------------------------------------------------------

Pnn Commits::sequencer(DatabaseId id) const {
  if (view_.vnnmap.empty()) return kNoPnn;
  return view_.vnnmap[number(id) % view_.vnnmap.size()].lmaster;
}

void Commits::on_request(Pnn from, DatabaseId id, Attached& attached, const commit::Request& request, Instant now) {
  if (attached.last && request.seqnum != 0 && attached.last->seqnum == request.seqnum && !attached.in_flight &&
      attached.last->entries == request.entries) {
    return send(from, id, commit::Done{request.id, 0, {}});
  }
  attached.queue.push_back(Queued{from, request, false});
  start_next(id, attached, now);
}

void Commits::start_next(DatabaseId id, Attached& attached, Instant now) {
  while (!attached.in_flight && !attached.queue.empty()) {
    Queued next = std::move(attached.queue.front());
    attached.queue.pop_front();
    const std::uint64_t seqnum = attached.seqnum + 1;
    if (next.request.seqnum != 0 && next.request.seqnum == attached.seqnum) {
      // Another commit has this number. A refused client looks at the sequence number, and would take that one for its
      // own: the number moves on before it is told.
      next.request.entries.clear();
      next.request.replace_all = false;
      next.request.seqnum = 0;
      next.refused = true;
    }
    if (next.request.seqnum != 0 && next.request.seqnum != seqnum) {
      send(next.origin, id, commit::Done{next.request.id, -1, kChangedMeanwhile});
      continue;
    }
    if (next.request.seqnum == 0) set_sequence_number(next.request.entries, seqnum, next.origin);
    InFlight flight;
    flight.seqnum = seqnum;
    flight.since = now;
    for (const Member& member : view_.members) flight.waiting.insert(member.pnn);
    const commit::Write write{seqnum, next.request.replace_all, next.request.entries};
    flight.commit = std::move(next);
    attached.in_flight = std::move(flight);
    for (const Member& member : view_.members) send(member.pnn, id, write);
  }
}

void Commits::on_durable_elsewhere(Pnn from, DatabaseId id, Attached& attached, const commit::Durable& durable,
                                   Instant now) {
  if (!attached.in_flight || attached.in_flight->seqnum != durable.seqnum) return;
  attached.in_flight->waiting.erase(from);
  // All of them: one survivor of this view must be enough to know the commit.
  const bool enough = planted(Plant::CommitWithMajority) &&
                      attached.in_flight->waiting.size() * 2 < view_.members.size();
  if (!attached.in_flight->waiting.empty() && !enough) return;
  InFlight done = std::move(*attached.in_flight);
  attached.in_flight.reset();
  if (done.commit.refused) {
    send(done.commit.origin, id, commit::Done{done.commit.request.id, -1, kChangedMeanwhile});
  } else {
    send(done.commit.origin, id, commit::Done{done.commit.request.id, 0, {}});
  }
  attached.last = Last{done.seqnum, std::move(done.commit.request.entries)};
  start_next(id, attached, now);
}

// --- a member: writes what the sequencer says -----------------------------------------------------------------

void Commits::on_write(Pnn from, DatabaseId id, Attached& attached, const commit::Write& write) {
  if (from != sequencer(id)) {
    actions_.emplace_back(CommitTrouble{from, "a commit from a node that does not order this database"});
    return;
  }
  if (write.seqnum != attached.seqnum + 1) {
    // The next view settles the copies.
    actions_.emplace_back(CommitTrouble{{}, attached.database->name() + ": the copy here is at another commit"});
    return;
  }
  Ticket ticket;
  ticket.after = CopyVersion{view_.generation, write.seqnum};
  ticket.entries = write.entries;
  ticket.tell = from;
  if (planted(Plant::AcknowledgeBeforeFsync)) send(from, id, commit::Durable{write.seqnum});
  DurableChange change;
  change.replace_all = write.replace_all;
  change.entries = write.entries;
  submit(id, attached, std::move(ticket), std::move(change));
}

void Commits::submit(DatabaseId id, Attached& attached, Ticket ticket, DurableChange change) {
  ticket.database = id;
  ticket.before = attached.version;
  ticket.replaced = change.replace_all;
  ticket.generation = view_.generation;
  if (ticket.visible) attached.seqnum = ticket.after.seqnum;
  change.database = id;
  change.version = ticket.after;
  actions_.emplace_back(SubmitChange{next_ticket_, std::move(change)});
  tickets_.emplace(next_ticket_++, std::move(ticket));
}

CommitActions Commits::on_durable(std::uint64_t number, const Result<>& result, Instant now) {
  const auto it = tickets_.find(number);
  if (it == tickets_.end()) return {};
  Ticket ticket = std::move(it->second);
  tickets_.erase(it);
  const auto found = databases_.find(ticket.database);
  if (found == databases_.end()) return {};
  Attached& attached = found->second;
  if (!result) {
    attached.seqnum = attached.version.seqnum;
    if (!ticket.tell) fail_fetch(ticket.database, attached, result.error().context);
    actions_.emplace_back(CommitTrouble{self_, result.error().context});
    return finish(now);
  }
  if (ticket.visible) {
    attached.version = ticket.after;
    if (ticket.replaced) {
      attached.history.clear();
    } else {
      attached.history.add(ticket.before, ticket.after, std::move(ticket.entries), settings_);
    }
  }
  if (!ticket.tell) {
    fetch_durable(attached, ticket, now);
  } else if (ticket.generation == view_.generation && !frozen()) {
    send(*ticket.tell, ticket.database, commit::Durable{ticket.after.seqnum});
  }
  return finish(now);
}

// --- messages -------------------------------------------------------------------------------------------------

void Commits::send(Pnn to, DatabaseId id, commit::Body body) {
  if (to == self_) {
    in_line_.emplace_back(id, std::move(body));
  } else {
    actions_.emplace_back(SendCommit{to, CommitMessage{view_.generation, id, std::move(body)}});
  }
}

CommitActions Commits::finish(Instant now) {
  while (!in_line_.empty()) {
    const auto [id, body] = std::move(in_line_.front());
    in_line_.pop_front();
    dispatch(self_, id, body, now);
  }
  return std::exchange(actions_, {});
}

CommitActions Commits::on_message(Pnn from, Incarnation incarnation, BytesView body, Instant now) {
  auto message = decode_commit_message(body);
  if (!message) return {CommitTrouble{from, message.error().context}};
  deliver(Parked{from, incarnation, std::move(*message), body.size() + sizeof(Parked)}, now);
  return finish(now);
}

void Commits::deliver(Parked parked, Instant now) {
  const commit::Body& body = parked.message.body;
  const DatabaseId id = parked.message.database;
  if (std::holds_alternative<commit::Pull>(body) || std::holds_alternative<commit::PullData>(body) ||
      std::holds_alternative<commit::PullRefused>(body) || std::holds_alternative<commit::AskCopies>(body) ||
      std::holds_alternative<commit::Copies>(body)) {
    return dispatch(parked.from, id, body, now);  // copies are told apart by their version
  }
  const View& promised = frozen() ? accepted_ : view_;
  const Member* sender = promised.member(parked.from);
  const Generation g = parked.message.generation;
  if ((sender == nullptr || sender->incarnation != parked.incarnation) && g <= promised.generation) return;
  if (g < view_.generation || (g > view_.generation && g < promised.generation)) return;
  if (g > view_.generation) return park(std::move(parked));
  // Frozen: nothing is written any more. That a commit is over stays true.
  if (frozen() && !std::holds_alternative<commit::Done>(body)) return;
  const bool of_all = std::holds_alternative<commit::Done>(body) || std::holds_alternative<commit::AskInstalled>(body) ||
                      std::holds_alternative<commit::Installed>(body);
  if (!databases_.contains(id) && !of_all) return park(std::move(parked));
  dispatch(parked.from, id, body, now);
}

void Commits::park(Parked parked) {
  if (parked_bytes_ + parked.bytes > kMaxParkedCommitBytes) {
    actions_.emplace_back(CommitTrouble{{}, "too many commits wait for a view or a database"});
    return;
  }
  parked_bytes_ += parked.bytes;
  parked_.push_back(std::move(parked));
}

void Commits::deliver_parked(Instant now) {
  std::deque<Parked> waiting = std::move(parked_);
  parked_.clear();
  parked_bytes_ = 0;
  for (Parked& parked : waiting) deliver(std::move(parked), now);
}

void Commits::dispatch(Pnn from, DatabaseId id, const commit::Body& body, Instant now) {
  if (const auto* done = std::get_if<commit::Done>(&body)) return on_done(*done);
  if (const auto* pull = std::get_if<commit::Pull>(&body)) return on_pull(from, id, *pull);
  if (std::holds_alternative<commit::AskCopies>(body)) return on_ask_copies(from);
  if (const auto* known = std::get_if<commit::Copies>(&body)) {
    actions_.emplace_back(CopiesKnown{from, known->installed, known->copies});
    return;
  }
  if (std::holds_alternative<commit::AskInstalled>(body)) return on_ask_installed(from);
  if (std::holds_alternative<commit::Installed>(body)) return on_installed(from);
  const auto it = databases_.find(id);
  if (it == databases_.end()) return;
  Attached& attached = it->second;
  std::visit(Match{
                 [&](const commit::Request& m) { on_request(from, id, attached, m, now); },
                 [&](const commit::Write& m) { on_write(from, id, attached, m); },
                 [&](const commit::Durable& m) { on_durable_elsewhere(from, id, attached, m, now); },
                 [&](const commit::PullData& m) { on_pull_data(from, id, attached, m, now); },
                 [&](const commit::PullRefused& m) {
                   if (attached.fetch && attached.fetch->id() == m.id && attached.fetch->from() == from) {
                     fail_fetch(id, attached, m.reason);
                   }
                 },
                 [](const auto&) {},
             },
             body);
}

// --- copies ---------------------------------------------------------------------------------------------------

void Commits::on_pull(Pnn from, DatabaseId id, const commit::Pull& pull) {
  const auto it = databases_.find(id);
  if (it == databases_.end() || !shared_everywhere(*it->second.database)) {
    return send(from, id, commit::PullRefused{pull.id, "no such persistent database here"});
  }
  send(from, id, answer_pull(*it->second.database, it->second.version, it->second.history, pull, settings_));
}

CommitActions Commits::ask_copies(Pnn whom, Instant now) {
  send(whom, DatabaseId{}, commit::AskCopies{});
  return finish(now);
}

void Commits::on_ask_copies(Pnn from) {
  commit::Copies known;
  // A view change under way may end without this node.
  if (may_commit()) known.installed = view_.generation;
  for (const auto& [id, attached] : databases_) {
    if (!shared_everywhere(*attached.database) || known.copies.size() == kMaxCopies) continue;
    known.copies.push_back({id, attached.database->name(), attached.database->kind(), attached.version});
  }
  send(from, DatabaseId{}, std::move(known));
}

CommitActions Commits::settle(DatabaseId id, Pnn from, const CopyVersion& version, Instant now) {
  const auto it = databases_.find(id);
  if (it == databases_.end()) return {SettleFailed{id, "the database is not attached here"}};
  Attached& attached = it->second;
  if (attached.version == version && version != CopyVersion{}) return {Settled{id, version}};
  if (from == self_) return {SettleFailed{id, "cannot fetch the copy from this node itself"}};
  const bool writing = std::any_of(tickets_.begin(), tickets_.end(),
                                   [id](const auto& entry) { return entry.second.database == id; });
  if (writing) return {SettleFailed{id, "a write is under way"}};
  attached.fetch.emplace(next_fetch_++, from, attached.version, version, now);
  pull(id, attached, now);
  return finish(now);
}

void Commits::pull(DatabaseId id, Attached& attached, Instant now) {
  send(attached.fetch->from(), id, attached.fetch->next());
  attached.fetch->asked(now + settings_.pull_again);
}

void Commits::on_pull_data(Pnn from, DatabaseId id, Attached& attached, commit::PullData data, Instant now) {
  if (!attached.fetch) return;
  const std::uint64_t before = attached.fetch->bytes();
  auto step = attached.fetch->on_data(from, std::move(data), settings_, now);
  if (!step) return;
  fetched_.bytes += attached.fetch->bytes() - before;
  std::visit(Match{
                 [](CopyFetch::Wait&) {},
                 [&](CopyFetch::Failed& failed) { fail_fetch(id, attached, std::move(failed.reason)); },
                 [&](CopyFetch::Write& write) {
                   Ticket ticket;
                   ticket.fetch = attached.fetch->id();
                   ticket.after = write.change.version;
                   ticket.visible = write.change.part == DurableChange::Part::All ||
                                    write.change.part == DurableChange::Part::Last;
                   if (!write.change.replace_all) ticket.entries = write.change.entries;
                   submit(id, attached, std::move(ticket), std::move(write.change));
                 },
             },
             *step);
}

void Commits::fetch_durable(Attached& attached, const Ticket& ticket, Instant now) {
  if (!attached.fetch || attached.fetch->id() != ticket.fetch) return;  // given up meanwhile
  if (!attached.fetch->written(now)) return pull(ticket.database, attached, now);
  ++(attached.fetch->whole() ? fetched_.whole : fetched_.differences);
  attached.fetch.reset();
  actions_.emplace_back(Settled{ticket.database, attached.version});
}

void Commits::fail_fetch(DatabaseId id, Attached& attached, std::string reason) {
  if (!attached.fetch) return;
  attached.fetch.reset();
  actions_.emplace_back(SettleFailed{id, std::move(reason)});
}

std::map<DatabaseId, CopyVersion> Commits::versions() const {
  std::map<DatabaseId, CopyVersion> versions;
  for (const auto& [id, attached] : databases_) {
    if (shared_everywhere(*attached.database)) versions[id] = attached.version;
  }
  return versions;
}

std::uint64_t Commits::sequence_number(DatabaseId id) const {
  const auto it = databases_.find(id);
  if (it == databases_.end()) return 0;
  const auto record = it->second.database->fetch(kSequenceNumberKey);
  if (!record || !*record) return 0;
  ByteReader in((*record)->value);
  return in.get<std::uint64_t>();
}

// --- views and time -------------------------------------------------------------------------------------------

void Commits::prepare(const View& view, bool continuity_broken, Instant) {
  if (view.generation <= accepted_.generation) return;
  accepted_ = view;
  if (continuity_broken) {
    view_ = View{};
    draining_ = false;
  }
  uncertain_.clear();
  not_installed_.clear();
  ask_installed_.clear();
  // A batch that still arrives must not change a copy whose version was reported for this view.
  for (auto& [id, attached] : databases_) attached.fetch.reset();
  std::erase_if(parked_, [&](const Parked& parked) {
    if (parked.message.generation >= view.generation) return false;
    parked_bytes_ -= parked.bytes;
    return true;
  });
}

CommitActions Commits::install(const View& view, Instant now) {
  if (view.generation < accepted_.generation || view.generation <= view_.generation) return {};
  view_ = view;
  accepted_ = view;
  for (auto& [id, attached] : databases_) {
    attached.queue.clear();
    attached.in_flight.reset();
    attached.last.reset();
    if (view_.contains(self_)) fail_fetch(id, attached, "a view was installed meanwhile");
  }
  if (!view_.contains(self_)) return finish(now);
  view_durable_ = false;
  for (const auto& [id, local] : commits_) {
    if (local.sent) uncertain_.push_back(id);
  }
  if (!uncertain_.empty()) {
    for (const Member& member : view_.members) not_installed_.insert(member.pnn);
    for (const Member& member : view_.members) send(member.pnn, DatabaseId{}, commit::AskInstalled{});
    if (planted(Plant::AnswerBeforeAllInstalled)) answer_uncertain();
  }
  if (may_commit()) send_held();
  deliver_parked(now);
  return finish(now);
}

// The copies are equal now, so what the client reads from its own one is the truth about its commit. But as long as a
// member has not noted for good that it uses this view, its copy counts as of an older one, and could yet lose to
// the copy of a node that was left out: then what the client was told would not stay true.
void Commits::on_installed(Pnn from) {
  not_installed_.erase(from);
  if (not_installed_.empty()) answer_uncertain();
}

void Commits::answer_uncertain() {
  for (const CommitId id : std::exchange(uncertain_, {})) {
    const auto at = commits_.find(id);
    if (at == commits_.end()) continue;
    if (number_taken_by_another(at->second)) {
      send_local(id, at->second);  // the sequencer refuses it, see start_next()
    } else {
      answer(id, planted(Plant::RefuseInViewChange) ? -1 : 2, kEndedByRecovery);
    }
  }
}

void Commits::on_ask_installed(Pnn from) {
  if (view_durable_) return send(from, DatabaseId{}, commit::Installed{});
  ask_installed_.push_back(from);
}

CommitActions Commits::view_durable(Instant now) {
  view_durable_ = true;
  for (const Pnn asker : std::exchange(ask_installed_, {})) send(asker, DatabaseId{}, commit::Installed{});
  return finish(now);
}

CommitActions Commits::tick(Instant now) {
  for (auto& [id, attached] : databases_) {
    if (attached.in_flight && !attached.in_flight->reported && !frozen() &&
        now >= attached.in_flight->since + settings_.commit_limit) {
      attached.in_flight->reported = true;
      for (const Pnn pnn : attached.in_flight->waiting) {
        actions_.emplace_back(CommitTrouble{pnn, attached.database->name() + ": a commit is not durable there in time"});
      }
    }
    if (attached.fetch && !attached.fetch->writing() && now >= attached.fetch->last_progress() + settings_.pull_limit) {
      fail_fetch(id, attached, "no answer from the source of the copy");
    }
    if (attached.fetch && now >= attached.fetch->retry_at()) pull(id, attached, now);
  }
  return finish(now);
}

Instant Commits::next_wake() const {
  Instant next = kNever;
  for (const auto& [id, attached] : databases_) {
    if (attached.in_flight && !attached.in_flight->reported && !frozen()) {
      next = std::min(next, attached.in_flight->since + settings_.commit_limit);
    }
    if (attached.fetch) {
      if (!attached.fetch->writing()) next = std::min(next, attached.fetch->last_progress() + settings_.pull_limit);
      next = std::min(next, attached.fetch->retry_at());
    }
  }
  return next;
}

}  // namespace tdbmesh
