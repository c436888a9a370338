// The leader's assigner and the nodes' holders: rules one by one, then all together over links and kernels that take
// their time.

#include <gtest/gtest.h>

#include <deque>

#include "db/base/match.h"
#include "db/base/random.h"
#include "ipfailover/address_assigner.h"
#include "ipfailover/address_holder.h"

namespace tdbmesh::ipfailover {
namespace {

const Address kOne = ctdb::v4_address(10, 0, 0, 1);
const Generation kNow{3, 1};

Instant at(std::int64_t ms) { return Instant{} + milliseconds(ms); }

View view_of(std::uint32_t nodes) {
  View view;
  view.generation = kNow;
  view.leader = Pnn{0};
  for (std::uint32_t n = 0; n < nodes; ++n) view.members.push_back({Pnn{n}, 1, Generation{1, n + 1}});
  return view;
}

HostReport report(bool held, NodeFlags flags = 0) {
  HostReport m;
  m.generation = kNow;
  m.flags = flags;
  m.entries = {{kOne, "net", true, held}};
  return m;
}

template <class T>
std::vector<std::pair<Pnn, T>> sent(const AssignerActions& out) {
  std::vector<std::pair<Pnn, T>> found;
  for (const AssignerAction& a : out) {
    const auto* send = std::get_if<SendTakeover>(&a);
    if (send != nullptr && std::holds_alternative<T>(send->message)) found.push_back({send->to, std::get<T>(send->message)});
  }
  return found;
}

std::string reasons(const AssignerActions& out) {
  std::string all;
  for (const AssignerAction& a : out) {
    if (const auto* why = std::get_if<AssignerDecision>(&a)) all += why->text + "\n";
  }
  return all;
}

// Two nodes, of which the first leads; who reported that it holds the address.
struct Leader {
  explicit Leader(bool zero_has, bool one_has = false) {
    assigner.begin(view_of(2));
    assigner.on_message(Pnn{0}, report(zero_has), at(0), out);
    assigner.all_installed(kNow, at(0), out);
    EXPECT_TRUE(sent<TakeAddress>(out).empty()) << "not before everybody has reported";
    say(Pnn{1}, report(one_has));
  }
  void say(Pnn from, const TakeoverMessage& message, std::int64_t ms = 0) {
    out.clear();
    assigner.on_message(from, message, at(ms), out);
  }
  AddressAssigner assigner{Pnn{0}, seconds(5)};
  AssignerActions out;
};

TEST(AddressAssigner, GivesAFreeAddressOnlyWhenAllHaveReported) {
  Leader leader(false);
  ASSERT_EQ(sent<TakeAddress>(leader.out).size(), 1u);
}

TEST(AddressAssigner, TakesFromALiveOwnerOnlyAfterItsReleased) {
  Leader leader(true);
  leader.say(Pnn{0}, report(true, kFlagDisabled));
  const auto release = sent<ReleaseAddress>(leader.out);
  ASSERT_EQ(release.size(), 1u);
  EXPECT_EQ(release[0].first, Pnn{0});
  EXPECT_TRUE(sent<TakeAddress>(leader.out).empty());
  EXPECT_NE(reasons(leader.out).find("node 0 is disabled"), std::string::npos);

  leader.say(Pnn{0}, AddressReleased{kNow, kOne, release[0].second.number - 1});
  EXPECT_TRUE(sent<TakeAddress>(leader.out).empty()) << "that answers an older question";
  leader.say(Pnn{1}, AddressReleased{kNow, kOne, release[0].second.number});
  EXPECT_TRUE(sent<TakeAddress>(leader.out).empty()) << "it is not the owner's word";
  leader.say(Pnn{0}, AddressReleased{Generation{3, 0}, kOne, release[0].second.number});
  EXPECT_TRUE(sent<TakeAddress>(leader.out).empty()) << "another generation";

  leader.say(Pnn{0}, AddressReleased{kNow, kOne, release[0].second.number});
  const auto take = sent<TakeAddress>(leader.out);
  ASSERT_EQ(take.size(), 1u);
  EXPECT_EQ(take[0].first, Pnn{1});
  EXPECT_GT(take[0].second.number, release[0].second.number);
}

// What happened to run starts, moves and tables, in order: "starts starts take", ...
std::string course(const AssignerActions& out) {
  std::string all;
  for (const AssignerAction& a : out) {
    const auto* send = std::get_if<SendTakeover>(&a);
    if (send == nullptr) continue;
    all += std::visit(Match{
                          [](const RunStarts&) { return "starts "; },
                          [](const TakeAddress&) { return "take "; },
                          [](const ReleaseAddress&) { return "release "; },
                          [](const HostTable&) { return "table "; },
                          [](const auto&) { return ""; },
                      },
                      send->message);
  }
  return all;
}

TEST(AddressAssigner, TellsAllThatARunStartsBeforeAnythingMovesAndThenWhoHostsWhat) {
  Leader leader(true);
  EXPECT_EQ(course(leader.out), "table table ") << "nothing moves, so nothing starts";
  leader.say(Pnn{0}, report(true, kFlagDisabled));
  EXPECT_EQ(course(leader.out), "starts starts release ");
  leader.say(Pnn{0}, AddressReleased{kNow, kOne, sent<ReleaseAddress>(leader.out)[0].second.number});
  EXPECT_EQ(course(leader.out), "take ") << "the same run";
  leader.say(Pnn{1}, AddressTaken{kNow, kOne, sent<TakeAddress>(leader.out)[0].second.number});
  EXPECT_EQ(course(leader.out), "table table ");
  leader.say(Pnn{0}, report(false));
  EXPECT_EQ(course(leader.out).find("take"), std::string::npos);
  leader.say(Pnn{1}, report(false, kFlagDisabled));
  EXPECT_EQ(course(leader.out), "starts starts release ") << "the next one";
}

TEST(AddressAssigner, LetsTheLongerMemberKeepWhatTwoReport) {
  Leader leader(true, true);
  const auto release = sent<ReleaseAddress>(leader.out);
  ASSERT_EQ(release.size(), 1u);
  EXPECT_EQ(release[0].first, Pnn{1});
}

TEST(AddressAssigner, LeavesOutAnOwnerThatDoesNotRelease) {
  Leader leader(true);
  leader.say(Pnn{0}, report(true, kFlagUnhealthy));
  leader.out.clear();
  leader.assigner.tick(at(4999), leader.out);
  EXPECT_TRUE(leader.out.empty());
  leader.assigner.tick(at(5000), leader.out);
  ASSERT_EQ(leader.out.size(), 1u);
  EXPECT_EQ(std::get<LeaveOut>(leader.out[0]).pnn, Pnn{0});
}

TEST(AddressAssigner, PassesOverANodeThatFailedForAWhile) {
  Leader leader(false);
  const auto first = sent<TakeAddress>(leader.out)[0];
  leader.say(first.first, TakeFailed{kNow, kOne, first.second.number, "no such device"});
  const auto second = sent<TakeAddress>(leader.out);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_NE(second[0].first, first.first);
  EXPECT_NE(reasons(leader.out).find("no such device"), std::string::npos);
}

TEST(AddressAssigner, SaysWhyNobodyHostsAnAddressAndSaysItOnce) {
  Leader leader(true);
  leader.say(Pnn{1}, report(false, kFlagDisabled));
  leader.say(Pnn{0}, report(true, kFlagUnhealthy));
  const std::uint64_t number = sent<ReleaseAddress>(leader.out).at(0).second.number;
  leader.say(Pnn{0}, AddressReleased{kNow, kOne, number});
  EXPECT_EQ(reasons(leader.out), "nobody hosts it: node 0 is unhealthy, node 1 is disabled\n");
  leader.say(Pnn{1}, report(false, kFlagDisabled | kFlagUnhealthy));
  EXPECT_EQ(reasons(leader.out), "");
}

TEST(AddressAssigner, KeepsAMovedAddressUntilTheNextRun) {
  Leader leader(true);
  leader.say(Pnn{1}, MoveWish{kNow, 7, kOne, Pnn{1}});
  leader.say(Pnn{0}, AddressReleased{kNow, kOne, sent<ReleaseAddress>(leader.out).at(0).second.number});
  leader.say(Pnn{1}, AddressTaken{kNow, kOne, sent<TakeAddress>(leader.out).at(0).second.number});
  const auto answer = sent<MoveAnswer>(leader.out);
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].second.error, "");
  EXPECT_EQ(answer[0].second.id, 7u);
}

// ---- the holder ---------------------------------------------------------------------------------------------------

PublicAddress configured(const Address& address) { return {address, 24, {"eth0"}}; }

struct Host {
  Host() {
    holder.start(out);
    kernel(InterfaceState{"eth0", true});
    finish_drop();
    holder.install(kNow, out);
    out.clear();
  }
  void finish_drop() {
    for (const HolderAction& a : HolderActions(out)) {
      if (const auto* drop = std::get_if<KernelDropAll>(&a)) kernel(Dropped{drop->ticket, {}, ""});
    }
  }
  void kernel(const KernelEvent& event) { holder.on_kernel(event, out); }
  void leader(const TakeoverMessage& message, bool gate = true) {
    out.clear();
    holder.on_message(message, gate, out);
  }
  template <class T>
  std::optional<T> done() const {
    for (const HolderAction& a : out) {
      if (const auto* action = std::get_if<T>(&a)) return *action;
    }
    return std::nullopt;
  }
  template <class T>
  std::optional<T> said() const {
    for (const HolderAction& a : out) {
      const auto* say = std::get_if<SayToLeader>(&a);
      if (say != nullptr && std::holds_alternative<T>(say->message)) return std::get<T>(say->message);
    }
    return std::nullopt;
  }
  AddressHolder holder{{configured(kOne)}};
  HolderActions out;
};

TEST(AddressHolder, SaysReleasedOnlyWhenTheKernelHasConfirmed) {
  Host host;
  host.leader(TakeAddress{kNow, kOne, 1});
  host.kernel(Taken{host.done<KernelTake>()->ticket, kOne, ""});
  EXPECT_EQ(host.said<AddressTaken>()->number, 1u);
  EXPECT_TRUE(host.holder.hosts(kOne));
  host.leader(ReleaseAddress{kNow, kOne, 2});
  EXPECT_FALSE(host.said<AddressReleased>());
  host.kernel(Released{host.done<KernelRelease>()->ticket, kOne, ""});
  EXPECT_EQ(host.said<AddressReleased>()->number, 2u);
  EXPECT_FALSE(host.holder.hosts(kOne));
}

TEST(AddressHolder, ALateTakeDoesNotUndoARelease) {
  Host host;
  host.leader(ReleaseAddress{kNow, kOne, 5});
  host.leader(TakeAddress{kNow, kOne, 4});
  EXPECT_FALSE(host.done<KernelTake>());
}

TEST(AddressHolder, ATakeOfAnotherGenerationIsIgnored) {
  Host host;
  host.leader(TakeAddress{Generation{2, 9}, kOne, 9});
  EXPECT_TRUE(host.out.empty());
  host.holder.prepare();
  host.leader(TakeAddress{kNow, kOne, 9});
  EXPECT_TRUE(host.out.empty()) << "a newer view is on its way";
}

TEST(AddressHolder, TakesNothingWhileItsAddressesAreDropped) {
  Host host;
  host.holder.drop("test", host.out);
  EXPECT_TRUE(host.holder.dropping());
  host.leader(TakeAddress{kNow, kOne, 1});
  EXPECT_FALSE(host.done<KernelTake>());
  EXPECT_TRUE(host.said<TakeFailed>());
}

TEST(AddressHolder, ATakeWaitsForTheGateAndNotForEver) {
  Host host;
  host.leader(TakeAddress{kNow, kOne, 1}, false);
  EXPECT_TRUE(host.out.empty());
  host.holder.gate_opened(host.out);
  EXPECT_TRUE(host.done<KernelTake>());

  Host late;
  late.leader(TakeAddress{kNow, kOne, 1}, false);
  late.holder.tick(at(0), late.out);
  EXPECT_FALSE(late.said<TakeFailed>());
  late.holder.tick(at(1000), late.out);
  EXPECT_TRUE(late.said<TakeFailed>());
}

TEST(AddressHolder, RemovesWhatSomebodyElseAdded) {
  Host host;
  host.kernel(Appeared{kOne, "eth0"});
  EXPECT_TRUE(host.done<KernelRelease>());
}

TEST(AddressHolder, ReportsItsFlagsAtOnce) {
  Host host;
  host.holder.set_flags(kFlagDisabled, host.out);
  EXPECT_EQ(host.said<HostReport>()->flags, kFlagDisabled);
  host.out.clear();
  host.holder.set_flags(kFlagDisabled, host.out);
  EXPECT_TRUE(host.out.empty());
}

// ---- all together -------------------------------------------------------------------------------------------------

// One view of some nodes. Links are FIFO and slow, kernels are slow and fail; flags, wishes and links change at random.
class Together {
 public:
  Together(std::uint64_t seed, std::uint32_t nodes, std::uint32_t addresses) : random_(seed), nodes_(nodes) {
    std::vector<PublicAddress> all;
    for (std::uint32_t i = 0; i < addresses; ++i) all.push_back(configured(address(i)));
    assigner_.begin(view_of(nodes));
    for (std::uint32_t n = 0; n < nodes; ++n) {
      Node& node = machines_.emplace_back(Node{AddressHolder(all), {}, {}, {}, {}});
      HolderActions out;
      node.holder.start(out);
      node.holder.install(kNow, out);
      run(n, out);
    }
    for (std::uint32_t n = 0; n < nodes; ++n) machines_[n].events.push_back(InterfaceState{"eth0", true});
    AssignerActions out;
    assigner_.all_installed(kNow, now_, out);
    run(out);
  }

  void step(bool disturb) {
    now_ += milliseconds(1);
    const auto n = static_cast<std::uint32_t>(random_.below(nodes_));
    Node& node = machines_[n];
    HolderActions holder;
    AssignerActions leader;
    switch (random_.below(disturb ? 8 : 5)) {
      case 0:
      case 1:
        if (!node.to_leader.empty()) {
          const TakeoverMessage m = pop(node.to_leader);
          assigner_.on_message(Pnn{n}, m, now_, leader);
        }
        break;
      case 2:
        if (!node.from_leader.empty()) {
          const TakeoverMessage m = pop(node.from_leader);
          node.holder.on_message(m, true, holder);
        }
        break;
      case 3:
        if (!node.events.empty()) {
          const KernelEvent e = pop(node.events);
          node.holder.on_kernel(e, holder);
        }
        break;
      case 4:
        if (node.holder.next_wake() <= now_ || node.holder.next_wake() != kNever) node.holder.tick(now_, holder);
        assigner_.tick(now_, leader);
        break;
      case 5: node.holder.set_flags(random_.chance(2) ? kFlagDisabled : NodeFlags{0}, holder); break;
      case 6:
        assigner_.on_message(Pnn{n}, MoveWish{kNow, ++wishes_, address(random_.below(4)), Pnn{n}}, now_, leader);
        break;
      default:
        if (random_.chance(20)) node.holder.drop("test", holder);
        break;
    }
    run(n, holder);
    run(leader);
  }
  void heal() {
    for (std::uint32_t n = 0; n < nodes_; ++n) {
      HolderActions out;
      machines_[n].holder.set_flags(0, out);
      run(n, out);
    }
  }
  [[nodiscard]] std::size_t owners(std::uint32_t i) const {
    std::size_t count = 0;
    for (const Node& node : machines_) count += node.kernel.contains(address(i)) ? 1 : 0;
    return count;
  }

 private:
  struct Node {
    AddressHolder holder;
    std::set<Address> kernel;
    std::deque<KernelEvent> events;
    std::deque<TakeoverMessage> to_leader;
    std::deque<TakeoverMessage> from_leader;
  };
  static Address address(std::uint64_t i) { return ctdb::v4_address(10, 0, 0, static_cast<std::uint8_t>(i + 1)); }
  template <class T>
  static T pop(std::deque<T>& queue) {
    T first = std::move(queue.front());
    queue.pop_front();
    return first;
  }
  void run(std::uint32_t n, const HolderActions& actions) {
    Node& node = machines_[n];
    for (const HolderAction& action : actions) {
      std::visit(Match{[&](const SayToLeader& a) { node.to_leader.push_back(a.message); },
                       [&](const KernelTake& a) {
                         const bool fails = random_.chance(10);
                         if (!fails) node.kernel.insert(a.address);
                         node.events.push_back(Taken{a.ticket, a.address, fails ? "no" : ""});
                       },
                       [&](const KernelRelease& a) {
                         node.kernel.erase(a.address);
                         node.events.push_back(Released{a.ticket, a.address, ""});
                       },
                       [&](const KernelDropAll& a) {
                         node.kernel.clear();
                         node.events.push_back(Dropped{a.ticket, {}, ""});
                       },
                       [](const auto&) {}},
                 action);
    }
  }
  void run(const AssignerActions& actions) {
    for (const AssignerAction& action : actions) {
      if (const auto* send = std::get_if<SendTakeover>(&action)) machines_[number(send->to)].from_leader.push_back(send->message);
    }
  }

  Random random_;
  std::uint32_t nodes_;
  Instant now_{};
  std::uint64_t wishes_ = 0;
  std::deque<Node> machines_;
  AddressAssigner assigner_{Pnn{0}, seconds(3600)};
};

TEST(Takeover, NoAddressIsInTwoKernelsAndInTheEndAllAreHosted) {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    const auto nodes = static_cast<std::uint32_t>(2 + seed % 3);
    Together together(seed, nodes, 4);
    for (int i = 0; i < 1500; ++i) {
      together.step(true);
      for (std::uint32_t a = 0; a < 4; ++a) ASSERT_LE(together.owners(a), 1u) << "seed " << seed << " step " << i;
    }
    together.heal();
    for (int i = 0; i < 100'000; ++i) {
      together.step(false);
      bool all = true;
      for (std::uint32_t a = 0; a < 4; ++a) {
        ASSERT_LE(together.owners(a), 1u) << "seed " << seed << " healing step " << i;
        all = all && together.owners(a) == 1;
      }
      if (all) break;
    }
    for (std::uint32_t a = 0; a < 4; ++a) EXPECT_EQ(together.owners(a), 1u) << "seed " << seed << " address " << a;
  }
}

}  // namespace
}  // namespace tdbmesh::ipfailover
