#include "ipfailover/address_holder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "db/base/match.h"

namespace tdbmesh::ipfailover {
namespace {

constexpr Duration kRetry = milliseconds(500);
constexpr Duration kGatePatience = seconds(1);

}  // namespace

AddressHolder::AddressHolder(std::vector<PublicAddress> addresses) {
  for (PublicAddress& a : addresses) {
    a.address = host_only(a.address);
    for (const std::string& name : a.interfaces) links_.try_emplace(name, false);
    items_.try_emplace(a.address).first->second.what = std::move(a);
  }
}

void AddressHolder::start(HolderActions& out) {
  out.push_back(KernelConfigure{configured()});
  drop("start", out);
}

void AddressHolder::install(Generation generation, HolderActions& out) {
  generation_ = generation;
  quiet_ = false;
  early_.clear();
  for (auto& [address, item] : items_) {
    item.number = 0;
    item.owed_release = item.owed_failure = 0;
    item.claimed = item.in_kernel || item.doing != Doing::Nothing;
  }
  report(out);
}

void AddressHolder::report(HolderActions& out) {
  if (!generation_) return;
  HostReport m;
  m.generation = *generation_;
  m.no_takeover = no_takeover_;
  m.leaving = leaving_;
  m.flags = flags_;
  for (const auto& [address, item] : items_) {
    m.entries.push_back({address, network_name(item.what), item.listed && available(item.what),
                         item.in_kernel || item.doing != Doing::Nothing});
  }
  out.push_back(SayToLeader{std::move(m)});
}

void AddressHolder::drop(const std::string& why, HolderActions& out) {
  if (hooks_.keep_on_drop) return;
  bool anything = false;
  for (auto& [address, item] : items_) {
    anything = anything || item.in_kernel;
    // The kernel may still have it; nothing counts until it says otherwise. Commands under way are overtaken.
    if (item.doing != Doing::Nothing || item.in_kernel) {
      item.in_kernel = true;
      item.doing = Doing::Releasing;
    }
    item.ticket = 0;
  }
  if (anything) out.push_back(HolderLog{true, "all public addresses are dropped: " + why});
  dropping_ = ++last_ticket_;
  drop_again_ = false;
  out.push_back(KernelDropAll{dropping_});
}

// ---- the leader ------------------------------------------------------------------------------------------------

void AddressHolder::on_message(const TakeoverMessage& message, bool gate_open, HolderActions& out) {
  if (!generation_ || (generation_of(message) != *generation_ && !hooks_.any_generation)) return;
  std::visit(Match{
                 [&](const TakeAddress& m) { on_take(m, gate_open, out); },
                 [&](const ReleaseAddress& m) { on_release(m, out); },
                 [&](const RunStarts&) { out.push_back(ReallocationStarts{}); },
                 [&](const HostTable& m) {
                   table_.clear();
                   for (const HostTable::Entry& e : m.entries) table_[e.address] = e.host;
                   out.push_back(Reallocated{});
                 },
                 [](const auto&) {},
             },
             message);
}

void AddressHolder::on_take(const TakeAddress& take, bool gate_open, HolderActions& out) {
  if (quiet_ && !hooks_.any_generation) return;  // the leader of the next view begins anew
  const auto at = items_.find(take.address);
  const auto refuse = [&](std::string why) {
    out.push_back(SayToLeader{TakeFailed{take.generation, take.address, take.number, std::move(why)}});
  };
  if (at == items_.end() || !at->second.listed) return refuse("it is not configured here");
  Item& item = at->second;
  if (take.number < item.number) return;
  item.number = take.number;
  if (dropping_ != 0 || drop_again_) return refuse("this node is still dropping its addresses");
  if (!gate_open) {
    if (early_.empty()) early_until_ = Instant::min();
    early_[take.address] = take;
    return;
  }
  if (leaving_) return refuse("this node is about to leave");
  const std::string interface = choose_interface(item);
  if (interface.empty()) return refuse("no interface of it is up here");
  item.claimed = true;
  item.owed_release = 0;
  if (item.in_kernel && item.doing == Doing::Nothing) {
    out.push_back(SayToLeader{AddressTaken{take.generation, take.address, take.number}});
    return;
  }
  command_take(item, interface, out);
}

void AddressHolder::gate_opened(HolderActions& out) {
  for (const auto& [address, take] : std::exchange(early_, {})) on_take(take, true, out);
}

void AddressHolder::on_release(const ReleaseAddress& release, HolderActions& out) {
  const auto at = items_.find(release.address);
  if (at == items_.end()) {
    out.push_back(SayToLeader{AddressReleased{release.generation, release.address, release.number}});
    return;
  }
  Item& item = at->second;
  if (release.number < item.number) return;
  item.number = release.number;
  early_.erase(release.address);
  item.owed_release = release.number;
  item.owed_failure = 0;
  item.claimed = false;
  if (dropping_ != 0 && item.doing == Doing::Releasing) return;  // answered when the drop is done
  command_release(item, out);
}

// ---- the kernel ------------------------------------------------------------------------------------------------

void AddressHolder::command_take(Item& item, const std::string& interface, HolderActions& out) {
  item.doing = Doing::Taking;
  item.in_kernel = true;
  item.interface = interface;
  item.ticket = ++last_ticket_;
  item.retry = false;
  out.push_back(KernelTake{item.ticket, item.what.address, item.what.prefix, interface});
}

void AddressHolder::command_release(Item& item, HolderActions& out) {
  item.doing = Doing::Releasing;
  item.ticket = ++last_ticket_;
  item.retry = false;
  out.push_back(KernelRelease{item.ticket, item.what.address});
}

void AddressHolder::gone(Item& item, const std::string& why, HolderActions& out) {
  item.doing = Doing::Nothing;
  item.in_kernel = false;
  item.ticket = 0;
  item.retry = false;
  const std::string stood_on = std::exchange(item.stood_on, {});
  const Address& address = item.what.address;
  if (generation_) {
    if (item.owed_release != 0) {
      out.push_back(SayToLeader{AddressReleased{*generation_, address, item.owed_release}});
    } else if (item.owed_failure != 0) {
      out.push_back(SayToLeader{TakeFailed{*generation_, address, item.owed_failure, item.reason}});
    } else if (item.claimed) {
      out.push_back(SayToLeader{AddressLost{*generation_, address, item.number, why}});
    }
  }
  item.owed_release = item.owed_failure = 0;
  item.claimed = false;
  if (!stood_on.empty()) out.push_back(Unhosted{item.what, stood_on});
}

void AddressHolder::on_kernel(const KernelEvent& event, HolderActions& out) {
  std::visit(
      Match{
          [&](const Taken& e) {
            const auto at = items_.find(e.address);
            if (at == items_.end() || at->second.ticket != e.ticket || e.ticket == 0) return;
            Item& item = at->second;
            if (!e.error.empty()) {
              out.push_back(HolderLog{true, fmt::format("cannot take {}: {}", ctdb::to_string(e.address), e.error)});
              item.owed_failure = item.number;
              item.reason = e.error;
              return command_release(item, out);
            }
            item.doing = Doing::Nothing;
            item.ticket = 0;
            const std::string before = std::exchange(item.stood_on, item.interface);
            if (generation_ && item.number != 0) {
              out.push_back(SayToLeader{AddressTaken{*generation_, e.address, item.number}});
            }
            if (before != item.interface) out.push_back(Hosted{item.what, item.interface, before});
            on_links(out);
          },
          [&](const Released& e) {
            const auto at = items_.find(e.address);
            if (at == items_.end() || at->second.ticket != e.ticket || e.ticket == 0) return;
            if (!e.error.empty()) {
              out.push_back(HolderLog{true, fmt::format("cannot release {}: {}", ctdb::to_string(e.address), e.error)});
              at->second.retry = retry_wanted_ = true;
              retry_at_ = Instant::min();
              return;
            }
            gone(at->second, "released", out);
            forget_unlisted(out);
          },
          [&](const Dropped& e) {
            if (e.ticket != dropping_) return;
            dropping_ = 0;
            if (!e.error.empty()) {
              out.push_back(HolderLog{true, "cannot drop all public addresses: " + e.error});
              drop_again_ = retry_wanted_ = true;
              retry_at_ = Instant::min();
              return;
            }
            for (auto& [address, item] : items_) {
              if (item.in_kernel || item.doing != Doing::Nothing) gone(item, "dropped", out);
            }
            forget_unlisted(out);
          },
          [&](const Vanished& e) {
            const auto at = items_.find(e.address);
            // While a command is under way its own answer tells.
            if (at == items_.end() || at->second.doing != Doing::Nothing || !at->second.in_kernel) return;
            out.push_back(HolderLog{true, fmt::format("the kernel lost {}: {}", ctdb::to_string(e.address), e.why)});
            gone(at->second, e.why, out);
          },
          [&](const Appeared& e) {
            const auto at = items_.find(e.address);
            if (at == items_.end() || at->second.in_kernel || at->second.doing != Doing::Nothing || dropping_ != 0) return;
            out.push_back(HolderLog{true, fmt::format("{} stands on {} although this node does not host it: removed",
                                                      ctdb::to_string(e.address), e.interface)});
            command_release(at->second, out);
          },
          [&](const InterfaceState& e) { (void)set_link(e.interface, e.up, out); },
      },
      event);
}

void AddressHolder::tick(Instant now, HolderActions& out) {
  if (!early_.empty() && early_until_ == Instant::min()) early_until_ = now + kGatePatience;
  if (!early_.empty() && early_until_ <= now) {
    for (const auto& [address, take] : std::exchange(early_, {})) {
      out.push_back(SayToLeader{TakeFailed{take.generation, address, take.number, "this node's lease has lapsed"}});
    }
  }
  if (!retry_wanted_) return;
  if (retry_at_ == Instant::min()) {
    retry_at_ = now + kRetry;
    return;
  }
  if (retry_at_ > now) return;
  retry_wanted_ = false;
  retry_at_ = kNever;
  if (drop_again_) return drop("the last attempt failed", out);
  for (auto& [address, item] : items_) {
    if (item.retry) command_release(item, out);
  }
}

// ---- links and configuration ------------------------------------------------------------------------------------

bool AddressHolder::set_link(const std::string& interface, bool up, HolderActions& out) {
  const auto at = links_.find(interface);
  if (at == links_.end()) return false;
  if (at->second == up) return true;
  at->second = up;
  on_links(out);
  report(out);
  return true;
}

// What stands on an interface that is down goes to another one of its own here, if there is one; the leader sees to
// the rest.
void AddressHolder::on_links(HolderActions& out) {
  if (dropping_ != 0) return;
  for (auto& [address, item] : items_) {
    if (!item.in_kernel || item.doing != Doing::Nothing || link_up(item.interface)) continue;
    const std::string other = choose_interface(item);
    if (!other.empty()) command_take(item, other, out);
  }
}

// The interface that carries fewest addresses, in the order of the configuration.
std::string AddressHolder::choose_interface(const Item& item) const {
  const auto counts = interfaces();
  std::string best;
  for (const std::string& name : item.what.interfaces) {
    if (!link_up(name)) continue;
    if (best.empty() || counts.at(name) < counts.at(best)) best = name;
  }
  return best;
}

void AddressHolder::set_no_takeover(bool no_takeover, HolderActions& out) {
  if (no_takeover == no_takeover_) return;
  no_takeover_ = no_takeover;
  report(out);
}

void AddressHolder::set_flags(NodeFlags flags, HolderActions& out) {
  if (flags == flags_) return;
  flags_ = flags;
  report(out);
}

void AddressHolder::set_leaving(bool leaving, HolderActions& out) {
  if (leaving == leaving_) return;
  leaving_ = leaving;
  report(out);
}

void AddressHolder::reconfigure(std::vector<PublicAddress> addresses, HolderActions& out) {
  std::map<Address, PublicAddress> wanted;
  for (PublicAddress& a : addresses) {
    a.address = host_only(a.address);
    wanted[a.address] = std::move(a);
  }
  for (auto& [address, item] : items_) item.listed = wanted.contains(address);
  for (auto& [address, what] : wanted) {
    Item& item = items_[address];
    item.what = what;
    for (const std::string& name : what.interfaces) links_.try_emplace(name, false);
  }
  std::erase_if(items_, [](const auto& e) {
    return !e.second.listed && !e.second.in_kernel && e.second.doing == Doing::Nothing;
  });
  std::vector<PublicAddress> all;  // what is still to be released is still ours
  for (const auto& [address, item] : items_) all.push_back(item.what);
  out.push_back(KernelConfigure{std::move(all)});
  report(out);
  // Without a view nobody else decides.
  if (generation_) return;
  for (auto& [address, item] : items_) {
    if (!item.listed && item.doing == Doing::Nothing) command_release(item, out);
  }
}

void AddressHolder::forget_unlisted(HolderActions& out) {
  const std::size_t erased = std::erase_if(items_, [](const auto& e) {
    return !e.second.listed && !e.second.in_kernel && e.second.doing == Doing::Nothing;
  });
  if (erased == 0) return;
  out.push_back(KernelConfigure{configured()});
  report(out);
}

std::vector<PublicAddress> AddressHolder::configured() const {
  std::vector<PublicAddress> all;
  for (const auto& [address, item] : items_) {
    if (item.listed) all.push_back(item.what);
  }
  return all;
}

const PublicAddress* AddressHolder::find(const Address& address) const {
  const auto at = items_.find(host_only(address));
  return at == items_.end() || !at->second.listed ? nullptr : &at->second.what;
}

std::string AddressHolder::interface_of(const Address& address) const {
  const auto at = items_.find(host_only(address));
  return at == items_.end() ? std::string() : at->second.stood_on;
}

bool AddressHolder::available(const PublicAddress& address) const {
  return std::any_of(address.interfaces.begin(), address.interfaces.end(),
                     [&](const std::string& name) { return link_up(name); });
}

bool AddressHolder::link_up(const std::string& interface) const {
  const auto at = links_.find(interface);
  return at != links_.end() && at->second;
}

std::map<std::string, std::uint32_t> AddressHolder::interfaces() const {
  std::map<std::string, std::uint32_t> counts;
  for (const auto& [address, item] : items_) {
    for (const std::string& name : item.what.interfaces) (void)counts.try_emplace(name, 0);
  }
  for (const auto& [address, item] : items_) {
    if (item.in_kernel) ++counts[item.interface];
  }
  return counts;
}

bool AddressHolder::empty() const {
  return dropping_ == 0 && !drop_again_ && std::none_of(items_.begin(), items_.end(), [](const auto& e) {
           return e.second.in_kernel || e.second.doing != Doing::Nothing;
         });
}

Pnn AddressHolder::host_of(const Address& address) const {
  const auto at = table_.find(host_only(address));
  return at == table_.end() ? kNoPnn : at->second;
}

}  // namespace tdbmesh::ipfailover
