#include "ipfailover/address_shell.h"

#include <fmt/format.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

extern char** environ;

namespace tdbmesh::ipfailover {
namespace {

constexpr Duration kPingEvery = seconds(1);
constexpr Duration kPingPatience = seconds(3);
constexpr Duration kRescanAfter = milliseconds(5);  // one look for a burst of changes
constexpr int kSocketBuffer = 4 * 1024 * 1024;

// Close together at first, for a frame that was lost; then beyond the lifetime an address may have left in the kernel of
// a node of which every process was killed.
constexpr std::array<Duration, 7> kAnnounceAfter{milliseconds(50),   milliseconds(200),  milliseconds(500), milliseconds(1000),
                                                 milliseconds(1500), milliseconds(2000), milliseconds(3000)};
// A client that the old owner's kernel drew back until the last announcement hears a tickle from the new one after it.
static_assert((ConnectionWorker::kRepeats - 1) * ConnectionWorker::kInterval > kAnnounceAfter.back());

template <class... Fs>
struct Match : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Match(Fs...) -> Match<Fs...>;

}  // namespace

std::vector<Duration> default_announcements() { return {kAnnounceAfter.begin(), kAnnounceAfter.end()}; }

AddressShell::AddressShell(EventLoop& loop, AddressShellSettings settings)
    : loop_(loop), settings_(std::move(settings)),
      worker_([this, alive = std::weak_ptr<bool>(alive_)](const std::string& text) {
        loop_.post([this, alive, text] {
          if (alive.lock()) settings_.log(true, text);
        });
      }) {}

Result<std::unique_ptr<AddressShell>> AddressShell::create(EventLoop& loop, AddressShellSettings settings) {
  std::unique_ptr<AddressShell> shell(new AddressShell(loop, std::move(settings)));
  auto addresses = NetlinkAddresses::open();
  if (!addresses) return tl::unexpected<Error>(addresses.error());
  shell->addresses_ = std::move(*addresses);
  if (Result<> watched = shell->watch_kernel(); !watched) return tl::unexpected<Error>(watched.error());
  if (Result<> started = shell->start_supervisor(); !started) return tl::unexpected<Error>(started.error());
  shell->check_supervisor();
  return shell;
}

AddressShell::~AddressShell() {
  alive_.reset();
  stop_watching_supervisor();
  for (const int fd : {monitor_, query_}) {
    if (fd < 0) continue;
    loop_.remove(fd);
    ::close(fd);
  }
}

// ---- the supervisor ----

Result<> AddressShell::start_supervisor() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return system_failure("cannot make a socket pair for the supervisor");
  }
  for (const int fd : ends) ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSocketBuffer, sizeof kSocketBuffer);
  constexpr int kInChild = 3;  // dup2 by posix_spawn ends close-on-exec, also when it is this number already
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], kInChild);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  const std::string fd = std::to_string(kInChild);
  const std::string daemon = std::to_string(settings_.setup.daemon_pid);
  const char* arguments[] = {"tdbmesh-supervisor", fd.c_str(), daemon.c_str(), settings_.realtime ? "1" : "0", nullptr};
  const int code = ::posix_spawn(&pid_, settings_.supervisor_path.c_str(), &actions, &attributes,
                                 const_cast<char**>(arguments), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (code != 0) {
    ::close(ends[0]);
    pid_ = -1;
    errno = code;
    return system_failure("cannot start the supervisor " + settings_.supervisor_path);
  }
  socket_ = ends[0];
  if (Result<> added = loop_.add(socket_, EPOLLIN, [this](std::uint32_t) { on_supervisor(); }); !added) return added;
  outgoing_.clear();
  send(settings_.setup);
  send(supervisor::Configure{configured_});
  // What is held keeps its lifetime; what was asked for is asked for again. Both are harmless when done twice.
  for (const auto& [address, known] : known_) {
    if (known.state == State::Held) send(supervisor::Take{0, known.where, {}});
  }
  for (const supervisor::Command& command : unanswered_) send(command);
  pongs_ = pings_;
  return {};
}

void AddressShell::stop_watching_supervisor() {
  if (socket_ < 0) return;
  loop_.remove(socket_);
  ::close(socket_);
  socket_ = -1;
}

void AddressShell::supervisor_gone(const std::string& why) {
  stop_watching_supervisor();
  if (pid_ > 0) {
    // Two of them must not run: the old one would drop what the new one holds.
    ::kill(pid_, SIGKILL);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
  }
  settings_.log(true, "the supervisor " + why + "; starting another one");
  loop_.after(milliseconds(1), [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.lock() && socket_ < 0) {
      if (Result<> started = start_supervisor(); !started && !std::exchange(start_failed_, true)) {
        settings_.log(true, started.error().context);
      }
    }
  });
}

void AddressShell::check_supervisor() {
  const Instant now = loop_.now();
  if (socket_ < 0) {
    if (Result<> started = start_supervisor(); started) start_failed_ = false;
  } else if (pings_ != pongs_) {
    if (now - ping_sent_ >= kPingPatience) supervisor_gone("does not answer");
  } else {
    ping_sent_ = now;
    send(supervisor::Ping{++pings_});
  }
  loop_.after(kPingEvery, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.lock()) check_supervisor();
  });
}

void AddressShell::send(const supervisor::Command& command) {
  if (socket_ < 0) return;  // the next supervisor is told from the tables
  outgoing_.push_back(encode(command));
  flush();
}

void AddressShell::flush() {
  while (!outgoing_.empty() && socket_ >= 0) {
    const Bytes& first = outgoing_.front();
    if (::send(socket_, first.data(), first.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      if (errno == EAGAIN || errno == ENOBUFS) loop_.modify(socket_, EPOLLIN | EPOLLOUT);
      return;  // gone: reading tells
    }
    outgoing_.pop_front();
    if (outgoing_.empty()) loop_.modify(socket_, EPOLLIN);
  }
}

void AddressShell::on_supervisor() {
  flush();
  static thread_local Bytes buffer(supervisor::kMaxMessage, '\0');
  for (int count = 0; count < 256 && socket_ >= 0; ++count) {
    const ssize_t got = ::recv(socket_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return supervisor_gone("ended");
    const auto report = supervisor::decode_report(BytesView(buffer.data(), static_cast<std::size_t>(got)));
    if (report) on_report(*report);
  }
}

void AddressShell::on_report(const supervisor::Report& report) {
  const auto answered = [this](KernelTicket ticket) {
    std::erase_if(unanswered_, [&](const supervisor::Command& command) {
      return std::visit(Match{[&](const supervisor::Take& m) { return m.ticket == ticket; },
                              [&](const supervisor::Release& m) { return m.ticket == ticket; },
                              [&](const supervisor::DropAll& m) { return m.ticket == ticket; },
                              [](const auto&) { return false; }},
                        command);
    });
    if (unanswered_.empty()) plan_rescan();  // what changed meanwhile was not looked at
  };
  std::visit(Match{
                 [&](const Taken& m) {
                   answered(m.ticket);
                   const auto known = known_.find(m.address);
                   if (known == known_.end() && m.error.empty()) {
                     // The supervisor was quicker than the drop_all() that follows it there.
                     return emit(Taken{m.ticket, m.address, "overtaken: all addresses are being dropped"});
                   }
                   if (known != known_.end() && known->second.ticket == m.ticket) {
                     if (m.error.empty()) known->second.state = State::Held;
                     if (!m.error.empty()) known_.erase(known);
                     held_changed();
                   }
                   emit(m);
                 },
                 [&](const Released& m) {
                   answered(m.ticket);
                   const auto known = known_.find(m.address);
                   if (known != known_.end() && known->second.ticket == m.ticket) known_.erase(known);
                   appeared_.erase(m.address);
                   worker_.kill(m.address);
                   emit(m);
                 },
                 [&](const Dropped& m) {
                   answered(m.ticket);
                   for (const Address& address : m.found) worker_.kill(address);
                   // At the start: what the processes of an earlier life left behind may speak after their address is gone.
                   for (const PublicAddress& a : configured_) worker_.kill(a.address);
                   appeared_.clear();
                   emit(m);
                 },
                 [&](const supervisor::Lapsed& m) {
                   for (const Address& address : m.addresses) {
                     worker_.kill(address);
                     vanished(address, "dropped by the supervisor: the node's lease had run out");
                   }
                 },
                 [&](const supervisor::Lost& m) { vanished(m.address, m.why); },
                 [&](const supervisor::Pong& m) { pongs_ = m.number; },
                 [&](const supervisor::Notice& m) { settings_.log(m.warning, m.text); },
             },
             report);
}

void AddressShell::vanished(const Address& address, const std::string& why) {
  const auto known = known_.find(address);
  if (known == known_.end() || known->second.state != State::Held) return;
  known_.erase(known);
  held_changed();
  emit(Vanished{address, why});
}

void AddressShell::emit(KernelEvent event) {
  loop_.defer([this, alive = std::weak_ptr<bool>(alive_), event = std::move(event)] {
    if (alive.lock()) settings_.on_event(event);
  });
}

void AddressShell::held_changed() {
  std::set<Address> held;
  for (const auto& [address, known] : known_) {
    if (known.state == State::Held) held.insert(address);
  }
  worker_.set_held(held);
}

// ---- commands ----

void AddressShell::set_peers(const std::vector<PeerAddress>& peers) {
  settings_.setup.peers = peers;
  send(settings_.setup);
}

void AddressShell::configure(const std::vector<PublicAddress>& addresses) {
  configured_ = addresses;
  send(supervisor::Configure{configured_});
  interfaces_.clear();
  for (const PublicAddress& a : configured_) {
    for (const std::string& name : a.interfaces) {
      if (!interfaces_.contains(name)) emit(InterfaceState{name, interfaces_[name] = interface_up(name)});
    }
  }
  appeared_.clear();
  plan_rescan();
}

void AddressShell::take(const TakeCommand& command) {
  const supervisor::AddressOnInterface where{command.address, command.prefix, command.interface};
  known_[command.address] = {State::Taking, where, command.ticket};
  appeared_.erase(command.address);
  unanswered_.push_back(supervisor::Take{command.ticket, where, command.lease_until});
  send(unanswered_.back());
}

void AddressShell::release(KernelTicket ticket, const Address& address) {
  known_[address] = {State::Releasing, {}, ticket};
  held_changed();
  unanswered_.push_back(supervisor::Release{ticket, address});
  send(unanswered_.back());
}

void AddressShell::drop_all(KernelTicket ticket) {
  known_.clear();
  held_changed();
  unanswered_.push_back(supervisor::DropAll{ticket});
  send(unanswered_.back());
}

void AddressShell::announce(const Address& address, const std::string& interface) {
  send(supervisor::Announce{address, interface});
}

// ---- what happens behind our back ----

Result<> AddressShell::watch_kernel() {
  query_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  monitor_ = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (query_ < 0 || monitor_ < 0) return system_failure("cannot watch the interfaces");
  sockaddr_nl self{};
  self.nl_family = AF_NETLINK;
  self.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  if (::bind(monitor_, reinterpret_cast<sockaddr*>(&self), sizeof self) != 0) {
    return system_failure("cannot watch the interfaces");
  }
  return loop_.add(monitor_, EPOLLIN, [this](std::uint32_t) {
    // What they say does not matter: renewals alone make one each, and some may be lost. The kernel is asked how
    // it stands.
    char buffer[16 * 1024];
    bool relevant = false;
    while (true) {
      const ssize_t got = ::recv(monitor_, buffer, sizeof buffer, MSG_DONTWAIT);
      if (got < 0 && errno == ENOBUFS) {
        relevant = true;
        continue;
      }
      if (got <= 0) break;
      auto left = static_cast<unsigned>(got);
      for (auto* header = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
        if (header->nlmsg_type == RTM_NEWADDR) {
          const auto address = parse_address_message(header);
          const auto known = address ? known_.find(address->address) : known_.end();
          if (known != known_.end() && known->second.state == State::Held) continue;
        }
        relevant = true;
      }
    }
    if (relevant) plan_rescan();
  });
}

void AddressShell::plan_rescan() {
  if (std::exchange(rescan_planned_, true)) return;
  loop_.after(kRescanAfter, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.lock()) return;
    rescan_planned_ = false;
    rescan();
  });
}

bool AddressShell::interface_up(const std::string& name) const {
  ifreq ask{};
  std::memcpy(ask.ifr_name, name.data(), std::min(name.size(), sizeof ask.ifr_name - 1));
  if (::ioctl(query_, SIOCGIFFLAGS, &ask) != 0) return false;
  return (ask.ifr_flags & IFF_UP) != 0 && (ask.ifr_flags & IFF_RUNNING) != 0;
}

void AddressShell::rescan() {
  for (auto& [name, up] : interfaces_) {
    const bool now_up = interface_up(name);
    if (std::exchange(up, now_up) != now_up) emit(InterfaceState{name, now_up});
  }
  const auto all = addresses_->list();
  if (!all) return settings_.log(true, all.error().context);
  std::map<Address, std::string> there;
  for (const KernelAddress& a : *all) there.emplace(a.address, a.interface);
  std::vector<Address> missing;
  for (const auto& [address, known] : known_) {
    if (known.state == State::Held && !there.contains(address)) missing.push_back(address);
  }
  for (const Address& address : missing) {
    send(supervisor::Release{0, address});  // or it would be back with the next renewal, without anybody's wish
    vanished(address, "removed by somebody else, or its lifetime passed");
  }
  for (const PublicAddress& a : configured_) {
    const auto found = there.find(a.address);
    if (found == there.end()) {
      appeared_.erase(a.address);
    } else if (!known_.contains(a.address) && unanswered_.empty() && appeared_.insert(a.address).second) {
      emit(Appeared{a.address, found->second});
    }
  }
}

}  // namespace tdbmesh::ipfailover
