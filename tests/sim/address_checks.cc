#include "tests/sim/address_checks.h"

#include <fmt/format.h>

namespace tdbmesh::sim {

using namespace ipfailover;

// Commands are carried out one after the other, each in its own time.
void SimKernel::enqueue(std::function<void()> what) {
  queue_.push_back(std::move(what));
  if (!busy_) next();
}

void SimKernel::next() {
  if (queue_.empty()) {
    busy_ = false;
    return;
  }
  busy_ = true;
  hooks_.later(Duration(100) + Duration(static_cast<std::int64_t>(hooks_.random(6000))), [this] {
    const std::function<void()> what = std::move(queue_.front());
    queue_.pop_front();
    what();
    next();
  });
}

void SimKernel::configure(const std::vector<PublicAddress>& addresses) {
  configured_ = addresses;
  std::map<std::string, bool> named;
  for (const PublicAddress& a : addresses) {
    for (const std::string& name : a.interfaces) named[name] = true;
  }
  for (const auto& [name, up] : named) {
    enqueue([this, name = name] { hooks_.tell(InterfaceState{name, true}); });
  }
}

void SimKernel::take(const TakeCommand& command) {
  enqueue([this, command] {
    if (hooks_.local() >= hooks_.lease_until()) {
      return hooks_.tell(Taken{command.ticket, command.address, "the lease is over"});
    }
    there_[command.address] = command.interface;
    hooks_.tell(Taken{command.ticket, command.address, {}});
  });
}

void SimKernel::release(KernelTicket ticket, const Address& address) {
  enqueue([this, ticket, address] {
    there_.erase(address);
    hooks_.tell(Released{ticket, address, {}});
  });
}

void SimKernel::drop_all(KernelTicket ticket) {
  enqueue([this, ticket] {
    Dropped dropped{ticket, {}, {}};
    for (const auto& [address, interface] : there_) dropped.found.push_back(address);
    there_.clear();
    hooks_.tell(dropped);
  });
}

void SimKernel::supervise(Instant awake_since) {
  const Instant now = hooks_.local();
  const Instant until = hooks_.lease_until();
  if (now < until) {
    lease_open_ = true;
    lease_ended_ = until;
    return;
  }
  // It ran out, or was shut before.
  if (lease_open_) lease_ended_ = std::min(lease_ended_, now);
  lease_open_ = false;
  if (no_supervisor || there_.empty()) return;
  if (now < std::max(lease_ended_, awake_since) + allowance_) return;
  const std::map<Address, std::string> gone = std::exchange(there_, {});
  for (const auto& [address, interface] : gone) {
    hooks_.later(Duration(0), [this, address = address] {
      if (!there_.contains(address)) hooks_.tell(Vanished{address, "its lease is over"});
    });
  }
}

std::vector<ConfiguredAddress> sim_addresses(std::size_t count) {
  std::vector<ConfiguredAddress> all;
  for (std::size_t i = 0; i < count; ++i) {
    ConfiguredAddress a;
    const std::string last = std::to_string(i + 1);
    a.address = *ctdb::parse_address(i % 3 == 2 ? "fd00:77::" + last : fmt::format("192.168.{}.{}", i % 2, last));
    a.mask_bits = i % 3 == 2 ? 64 : 24;
    a.interfaces = {"eth0"};
    all.push_back(std::move(a));
  }
  return all;
}

std::string two_owners(const std::vector<AddressView>& machines) {
  std::map<Address, Pnn> owners;
  for (const AddressView& m : machines) {
    if (m.frozen || m.kernel == nullptr) continue;
    for (const auto& [address, interface] : m.kernel->there()) {
      const auto [owner, alone] = owners.try_emplace(address, m.pnn);
      if (alone) continue;
      return fmt::format("I7: {} answers from node {} and from node {}", ctdb::to_string(address),
                         to_string(owner->second), to_string(m.pnn));
    }
  }
  return {};
}

std::string not_hosted(const std::vector<ConfiguredAddress>& all, const std::vector<AddressView>& machines) {
  std::string missing;
  for (const ConfiguredAddress& a : all) {
    bool hosted = false;
    for (const AddressView& m : machines) hosted = hosted || (m.kernel != nullptr && m.kernel->there().contains(a.address));
    if (!hosted) missing += fmt::format("{} is hosted by nobody\n", ctdb::to_string(a.address));
  }
  return missing;
}

}  // namespace tdbmesh::sim
