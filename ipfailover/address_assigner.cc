#include "ipfailover/address_assigner.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "db/base/match.h"

namespace tdbmesh::ipfailover {
namespace {

constexpr Duration kFirstPenalty = milliseconds(200);
constexpr Duration kLongestPenalty = seconds(30);

}  // namespace

void AddressAssigner::begin(const View& view) {
  stop();
  generation_ = view.generation;
  for (const Member& m : view.members) {
    joins_[m.pnn] = m.join;
    missing_.insert(m.pnn);
  }
}

void AddressAssigner::stop() {
  generation_.reset();
  installed_by_all_ = false;
  joins_.clear();
  missing_.clear();
  reports_.clear();
  items_.clear();
  penalties_.clear();
  wishes_.clear();  // their askers hear of the new view and answer for themselves
  runs_.clear();
  told_.clear();
  told_once_ = dirty_ = run_started_ = false;
}

void AddressAssigner::all_installed(Generation generation, Instant now, AssignerActions& out) {
  if (generation_ != generation) return;
  installed_by_all_ = true;
  if (missing_.empty()) {
    begin_from_reports(out);
    decide(now, out);
  }
}

void AddressAssigner::on_report(Pnn from, const HostReport& report, Instant now, AssignerActions& out) {
  if (!joins_.contains(from)) return;
  const bool first = missing_.erase(from) > 0;
  const auto kept = reports_.find(from);
  HostReport now_known = report;
  if (!first && kept != reports_.end() && !working()) {
    // Before the start what counts is what the first one said is held; it can only have become less, and LOST says so.
    for (HostReport::Entry& e : now_known.entries) {
      e.held = e.held || std::any_of(kept->second.entries.begin(), kept->second.entries.end(),
                                     [&](const auto& k) { return k.address == e.address && k.held; });
    }
  }
  reports_[from] = std::move(now_known);
  if (!installed_by_all_ || !missing_.empty()) return;
  if (first) begin_from_reports(out);
  decide(now, out);
}

void AddressAssigner::begin_from_reports(AssignerActions& out) {
  for (const auto& [node, report] : reports_) {
    for (const HostReport::Entry& e : report.entries) {
      Item& item = items_[e.address];
      if (!e.held) continue;
      if (item.phase == Phase::Free) {
        item.phase = Phase::Held;
        item.owner = node;
        continue;
      }
      // Both say they have it. Whoever came in later was fenced and should have dropped it.
      const bool other_goes = joins_[node] < joins_[item.owner];
      const Pnn loser = other_goes ? item.owner : node;
      if (other_goes) item.owner = node;
      out.push_back(AssignerLog{true, fmt::format("nodes {} and {} both report {}: node {} must release it",
                                                  to_string(item.owner), to_string(loser), ctdb::to_string(e.address),
                                                  to_string(loser))});
      out.push_back(SendTakeover{loser, ReleaseAddress{*generation_, e.address, ++item.number}});
      send_take(e.address, item, item.owner, out);  // tells the owner the number, which it says with a LOST
    }
  }
}

AddressAssigner::Item* AddressAssigner::item_of(Pnn from, Generation generation, const Address& address) {
  if (!working() || generation != *generation_) return nullptr;
  const auto at = items_.find(address);
  return at == items_.end() || at->second.owner != from ? nullptr : &at->second;
}

void AddressAssigner::on_message(Pnn from, const TakeoverMessage& message, Instant now, AssignerActions& out) {
  if (!generation_ || generation_of(message) != *generation_) return;
  const auto current = [&](const Item& item, std::uint64_t n) { return n == item.number || hooks_.ignore_numbers; };
  const auto freed = [&](Item& item) {
    item.phase = Phase::Free;
    item.owner = kNoPnn;
    item.deadline = kNever;
    item.blamed = false;
    decide(now, out);
  };
  std::visit(Match{
                 [&](const HostReport& m) { on_report(from, m, now, out); },
                 [&](const AddressTaken& m) {
                   Item* item = item_of(from, m.generation, m.address);
                   if (item == nullptr || item->phase != Phase::Taking || !current(*item, m.number)) return;
                   item->phase = Phase::Held;
                   penalties_.erase({m.address, from});
                   settle(now, out);
                 },
                 [&](const TakeFailed& m) {
                   Item* item = item_of(from, m.generation, m.address);
                   if (item == nullptr || item->phase != Phase::Taking || !current(*item, m.number)) return;
                   out.push_back(AssignerLog{true, fmt::format("node {} could not take {}: {}", to_string(from),
                                                               ctdb::to_string(m.address), m.reason)});
                   penalise(m.address, from, now);
                   item->why_free = fmt::format("node {} could not take it: {}", to_string(from), m.reason);
                   freed(*item);
                 },
                 [&](const AddressReleased& m) {
                   Item* item = item_of(from, m.generation, m.address);
                   if (item == nullptr || item->phase != Phase::Releasing || !current(*item, m.number)) return;
                   freed(*item);
                 },
                 [&](const AddressLost& m) {
                   if (!working()) {
                     const auto report = reports_.find(from);
                     if (report == reports_.end()) return;
                     for (HostReport::Entry& e : report->second.entries) e.held = e.held && e.address != m.address;
                     return;
                   }
                   Item* item = item_of(from, m.generation, m.address);
                   if (item == nullptr || !current(*item, m.number)) return;
                   out.push_back(AssignerLog{true, fmt::format("node {} lost {}: {}", to_string(from),
                                                               ctdb::to_string(m.address), m.reason)});
                   item->why_free = fmt::format("node {} lost it: {}", to_string(from), m.reason);
                   freed(*item);
                 },
                 [&](const MoveWish& m) {
                   wishes_.push_back({from, m.id, m.address, m.to});
                   if (const auto at = items_.find(m.address); at != items_.end()) at->second.pin = m.to;
                   decide(now, out);
                 },
                 [](const auto&) {},  // what leaders say
             },
             message);
}

void AddressAssigner::update(const AssignerSettings& settings, Instant now, AssignerActions& out) {
  if (settings == settings_) return;
  settings_ = settings;
  decide(now, out);
}

bool AddressAssigner::start_run(std::uint64_t token, Instant now, AssignerActions& out) {
  if (!working()) return false;
  for (auto& [address, item] : items_) item.pin = kNoPnn;
  penalties_.clear();
  runs_.push_back(token);
  dirty_ = true;
  decide(now, out);
  return true;
}

std::vector<Pnn> AddressAssigner::eligible() const {
  std::vector<Pnn> healthy;
  std::vector<Pnn> any;
  for (const auto& [pnn, report] : reports_) {
    const NodeFlags flags = report.flags;
    if (report.leaving || (flags & kFlagsInactive) != 0) continue;
    any.push_back(pnn);
    if ((flags & (kFlagUnhealthy | kFlagDisabled)) == 0) healthy.push_back(pnn);
  }
  return healthy.empty() && settings_.host_on_all_disabled ? any : healthy;
}

AllocationInput AddressAssigner::allocation_input(Instant now) const {
  AllocationInput in;
  in.policy = settings_.policy;
  in.no_failback = settings_.no_failback;
  in.configured_nodes = settings_.configured_nodes;
  std::map<Address, AllocationAddress> all;
  for (const auto& [address, item] : items_) {
    AllocationAddress& a = all[address];
    a.address = address;
    a.current = item.owner;
    a.pin = item.pin;
    if (const auto home = settings_.homes.find(address); home != settings_.homes.end()) a.home = home->second;
  }
  for (const Pnn node : eligible()) {
    const HostReport& report = reports_.at(node);
    in.nodes.push_back({node, report.no_takeover});
    for (const HostReport::Entry& e : report.entries) {
      const auto at = all.find(e.address);
      if (at == all.end() || !e.available) continue;
      const auto penalty = penalties_.find({e.address, node});
      if (penalty != penalties_.end() && penalty->second.until > now) continue;
      if (at->second.network.empty()) at->second.network = e.network;
      at->second.candidates.push_back(node);
    }
  }
  for (auto& [address, a] : all) in.addresses.push_back(std::move(a));
  return in;
}

void AddressAssigner::say_that_a_run_starts(AssignerActions& out) {
  if (std::exchange(run_started_, true)) return;
  for (const auto& [node, join] : joins_) out.push_back(SendTakeover{node, RunStarts{*generation_}});
}

void AddressAssigner::send_release(const Address& address, Item& item, Instant now, AssignerActions& out) {
  say_that_a_run_starts(out);
  item.phase = Phase::Releasing;
  item.deadline = now + release_limit_;
  out.push_back(SendTakeover{item.owner, ReleaseAddress{*generation_, address, ++item.number}});
}

void AddressAssigner::send_take(const Address& address, Item& item, Pnn to, AssignerActions& out) {
  say_that_a_run_starts(out);
  item.told_nobody = false;
  item.phase = Phase::Taking;
  item.owner = to;
  out.push_back(SendTakeover{to, TakeAddress{*generation_, address, ++item.number}});
}

void AddressAssigner::decide(Instant now, AssignerActions& out) {
  if (!working()) return;
  for (const auto& [node, report] : reports_) {
    for (const HostReport::Entry& e : report.entries) (void)items_.try_emplace(e.address);
  }
  const AllocationInput in = allocation_input(now);
  const std::vector<Pnn> hosts = allocate(in);
  std::size_t at = 0;
  for (auto& [address, item] : items_) {
    const Pnn wanted = hosts[at++];
    if ((item.phase == Phase::Held || item.phase == Phase::Taking) && item.owner != wanted) {
      item.why_free = why_moved(address, item, wanted, now);
      out.push_back(AssignerDecision{address, fmt::format("leaves node {}: {}", to_string(item.owner), item.why_free)});
      send_release(address, item, now, out);
      if (hooks_.no_wait_for_released && wanted != kNoPnn) send_take(address, item, wanted, out);
    } else if (item.phase == Phase::Free && wanted != kNoPnn) {
      out.push_back(AssignerDecision{address, fmt::format("goes to node {}: {}", to_string(wanted), item.why_free)});
      send_take(address, item, wanted, out);
    } else if (item.phase == Phase::Free) {
      tell_nobody(address, item, now, out);
    }
  }
  settle(now, out);
}

// ---- reasons -----------------------------------------------------------------------------------------------------

std::string AddressAssigner::objection(const Address& address, Pnn node, Instant now) const {
  const auto report = reports_.find(node);
  if (report == reports_.end()) return "is not in the cluster";
  const NodeFlags flags = report->second.flags;
  const std::vector<Pnn> can = eligible();
  if (std::find(can.begin(), can.end(), node) == can.end()) {
    if (report->second.leaving) return "leaves the cluster";
    if ((flags & kFlagBanned) != 0) return "is banned";
    if ((flags & kFlagStopped) != 0) return "is stopped";
    if ((flags & kFlagsInactive) != 0) return "is inactive";
    if ((flags & kFlagDisabled) != 0) return "is disabled";
    return "is unhealthy";
  }
  const auto& entries = report->second.entries;
  const auto entry = std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e.address == address; });
  if (entry == entries.end()) return "does not have it in its public_addresses";
  if (!entry->available) return "has no interface of it that is up, or no longer lists it";
  const auto penalty = penalties_.find({address, node});
  if (penalty != penalties_.end() && penalty->second.until > now) return "failed to take it a moment ago";
  return {};
}

std::string AddressAssigner::why_moved(const Address& address, const Item& item, Pnn wanted, Instant now) const {
  if (const std::string why = objection(address, item.owner, now); !why.empty()) {
    return fmt::format("node {} {}", to_string(item.owner), why);
  }
  if (item.pin == wanted) return fmt::format("the operator moved it to node {}", to_string(wanted));
  const auto home = settings_.homes.find(address);
  if (home != settings_.homes.end() && home->second == wanted) return fmt::format("node {} is its home", to_string(wanted));
  return fmt::format("addresses are spread evenly ({})", to_string(settings_.policy));
}

void AddressAssigner::tell_nobody(const Address& address, Item& item, Instant now, AssignerActions& out) const {
  if (std::exchange(item.told_nobody, true)) return;
  std::string reasons;
  for (const auto& [node, report] : reports_) {
    std::string why = objection(address, node, now);
    if (why.empty()) why = report.no_takeover ? "takes nothing (NoIPTakeover)" : "was not chosen";
    reasons += fmt::format("{}node {} {}", reasons.empty() ? "" : ", ", to_string(node), why);
  }
  out.push_back(AssignerDecision{address, "nobody hosts it: " + reasons});
}

// When nothing is on its way any more, everybody is told who hosts what.
void AddressAssigner::settle(Instant now, AssignerActions& out) {
  const bool settled = std::none_of(items_.begin(), items_.end(), [](const auto& entry) {
    return entry.second.phase == Phase::Taking || entry.second.phase == Phase::Releasing;
  });
  answer_wishes(now, out, settled);
  if (!settled) return;
  std::vector<HostTable::Entry> table;
  for (const auto& [address, item] : items_) table.push_back({address, item.owner});
  if (told_once_ && !dirty_ && !run_started_ && table == told_) return;
  told_ = table;
  told_once_ = true;
  dirty_ = run_started_ = false;
  for (const auto& [node, join] : joins_) out.push_back(SendTakeover{node, HostTable{*generation_, told_}});
  for (const std::uint64_t token : runs_) out.push_back(RunEnded{token});
  runs_.clear();
}

void AddressAssigner::answer_wishes(Instant now, AssignerActions& out, bool settled) {
  std::erase_if(wishes_, [&](const Wish& w) {
    const auto at = items_.find(w.address);
    std::string error;
    if (at == items_.end()) {
      error = "no node has this public address in its configuration";
    } else if (at->second.phase != Phase::Held || at->second.owner != w.to) {
      const AllocationInput in = allocation_input(now);
      const auto a = std::find_if(in.addresses.begin(), in.addresses.end(), [&](const auto& x) { return x.address == w.address; });
      const bool can = std::find(a->candidates.begin(), a->candidates.end(), w.to) != a->candidates.end();
      if (can && !settled) return false;
      error = fmt::format("node {} cannot host it now: it is not configured there, or the node is unhealthy, disabled, "
                          "outside the cluster, or its interface is down", to_string(w.to));
      at->second.pin = kNoPnn;
    }
    out.push_back(SendTakeover{w.from, MoveAnswer{*generation_, w.id, error}});
    return true;
  });
}

void AddressAssigner::penalise(const Address& address, Pnn node, Instant now) {
  Penalty& p = penalties_[{address, node}];
  p.wait = p.wait == Duration(0) ? kFirstPenalty : std::min(p.wait * 2, kLongestPenalty);
  p.until = now + p.wait;
}

void AddressAssigner::tick(Instant now, AssignerActions& out) {
  if (!working() || next_wake() > now) return;
  for (auto& [address, item] : items_) {
    if (item.phase != Phase::Releasing || item.deadline > now || item.blamed) continue;
    item.blamed = true;  // once; the next view settles it
    item.deadline = kNever;
    out.push_back(LeaveOut{item.owner, fmt::format("it did not release the public address {} in time",
                                                   ctdb::to_string(address))});
  }
  bool again = false;
  for (auto& [what, penalty] : penalties_) {
    if (penalty.until > now || penalty.until == Instant{}) continue;
    penalty.until = Instant{};  // over; how long it was stays known
    again = true;
  }
  if (again) decide(now, out);
}

Instant AddressAssigner::next_wake() const {
  Instant next = kNever;
  if (!working()) return next;
  for (const auto& [address, item] : items_) {
    if (item.phase == Phase::Releasing) next = std::min(next, item.deadline);
  }
  for (const auto& [what, penalty] : penalties_) {
    if (penalty.until != Instant{}) next = std::min(next, penalty.until);
  }
  return next;
}

}  // namespace tdbmesh::ipfailover
