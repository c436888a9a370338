#include "ipfailover/supervisor.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>

#include "ipfailover/connections.h"
#include "transport/event_loop.h"
#include "transport/heartbeat_core.h"
#include "transport/zmtp_sender.h"

namespace tdbmesh::ipfailover::supervisor {
namespace {

constexpr Duration kFencedLimit = seconds(1);  // a peer that takes longer waits for the lease instead
constexpr Duration kMuted = seconds(2);        // by then its connections are ended, also by a busy connection worker
constexpr std::size_t kMostCommands = 4096;  // per wake-up, before the gate is looked at again

Instant to_instant(std::uint64_t boot_ns) {
  return Instant{std::chrono::duration_cast<Duration>(std::chrono::nanoseconds(boot_ns))};
}

// Three attempts before the kernel's own limit, which is a quarter of a second early.
Duration renewal_period(std::uint32_t lifetime) { return (seconds(lifetime) - milliseconds(250)) / 3; }

}  // namespace

Result<std::unique_ptr<Supervisor>> Supervisor::create(int socket, pid_t daemon) {
  const auto pidfd = static_cast<int>(::syscall(SYS_pidfd_open, daemon, 0));
  if (pidfd < 0) return system_failure("cannot watch the daemon");
  auto addresses = NetlinkAddresses::open();
  if (!addresses) return tl::unexpected<Error>(addresses.error());
  const int timer = ::timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer < 0) return system_failure("cannot make a timer");
  return std::unique_ptr<Supervisor>(new Supervisor(socket, pidfd, timer, std::move(*addresses)));
}

Supervisor::~Supervisor() {
  for (const int fd : {socket_, pidfd_, timer_}) {
    if (fd >= 0) ::close(fd);
  }
}

void Supervisor::run() {
  while (true) {
    schedule(boot_time_now());
    const auto output = static_cast<short>(reports_.empty() ? 0 : POLLOUT);
    std::array<pollfd, 3> fds{{{pidfd_, POLLIN, 0}, {timer_, POLLIN, 0}, {socket_, static_cast<short>(POLLIN | output), 0}}};
    if (::poll(fds.data(), fds.size(), -1) < 0) continue;
    in_kernel_.reset();
    if (fds[0].revents != 0) return daemon_ended();
    if ((fds[1].revents & POLLIN) != 0) {
      std::uint64_t ignored = 0;
      (void)!::read(timer_, &ignored, sizeof ignored);
    }
    look_at_gate(boot_time_now());  // before anything that takes longer
    if (fds[2].revents != 0 && socket_ >= 0 && !read_commands()) {
      // The daemon is about to end, or has given us up for dead. Either way nobody answers for the addresses.
      std::string error;
      drop_all(error);
      ::close(socket_);
      socket_ = -1;
      reports_.clear();
    }
    const Instant now = boot_time_now();
    look_at_gate(now);
    renew(now);
    announce_due(now);
    unmute_due(now);
    flush_reports();
  }
}

bool Supervisor::read_commands() {
  static Bytes buffer(kMaxMessage, '\0');
  for (std::size_t count = 0; count < kMostCommands; ++count) {
    const ssize_t got = ::recv(socket_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    Result<Command> command = decode_command(BytesView(buffer.data(), static_cast<std::size_t>(got)));
    if (!command) {
      report(Notice{true, "supervisor: " + command.error().context});
      continue;
    }
    std::visit([this](auto& m) { carry_out(m); }, *command);
  }
  return true;
}

void Supervisor::carry_out(Setup& m) {
  setup_ = std::move(m);
  auto gate = GateView::open(setup_.gate_path);
  if (gate) {
    gate_ = std::move(*gate);
  } else {
    report(Notice{true, "supervisor: " + gate.error().context + "; it takes no public address"});
  }
}

void Supervisor::carry_out(Configure& m) {
  configured_ = std::move(m.addresses);
  std::set<std::string> interfaces;
  for (const PublicAddress& a : configured_) interfaces.insert(a.interfaces.begin(), a.interfaces.end());
  for (const std::string& name : interfaces) (void)NetlinkAddresses::promote_secondaries(name);
  std::vector<Address> left;  // by a supervisor that was killed
  for (const PublicAddress& a : configured_) {
    if (!muted_.contains(a.address)) left.push_back(a.address);
  }
  addresses_->unmute(left);
}

bool Supervisor::gate_open() const {
  return gate_ && gate_->is_open() && gate_->daemon_pid() == setup_.daemon_pid;
}

void Supervisor::carry_out(Take& m) {
  const Address& address = m.where.address;
  const auto refuse = [&](const std::string& why) {
    if (m.ticket != 0) report(Taken{m.ticket, address, why});
    if (m.ticket == 0) report(Lost{address, why});
  };
  if (!gate_open() || (m.ticket != 0 && boot_time_now() >= m.lease_until)) {
    return refuse("the node's lease ran out before the address could be added");
  }
  const auto there = in_kernel().find(address);
  bool already = false;
  if (there != in_kernel().end()) {
    std::vector<KernelAddress> elsewhere;
    for (const KernelAddress& a : there->second) {
      const bool right = a.interface == m.where.interface && a.prefix == m.where.prefix;
      already = already || right;
      if (!right) elsewhere.push_back(a);
    }
    for (const Result<>& removed : addresses_->remove(elsewhere)) {  // it stays on this machine
      if (!removed) return refuse(removed.error().context);
    }
  }
  if (muted_.erase(address) != 0) addresses_->unmute({address});
  // Without a lifetime the kernel would keep it for ever; so also what is there already gets one.
  const Result<> added = addresses_->put({address, m.where.prefix, m.where.interface}, setup_.lifetime);
  in_kernel_.reset();
  if (!added) return refuse(added.error().context);
  if (!gate_open()) {
    const std::string error = remove(address);
    return refuse("the node's lease ran out while the address was added" + (error.empty() ? "" : "; " + error));
  }
  const bool first = held_.empty();
  held_[address] = {m.where.prefix, m.where.interface, {}};
  last_open_until_ = to_instant(gate_->open_until());
  const Instant now = boot_time_now();
  if (first) next_renewal_ = now + renewal_period(setup_.lifetime);
  if (m.ticket == 0) return;
  report(Taken{m.ticket, address, {}});
  const Announcement what{address, m.where.interface, true};
  announce_now(what);
  for (const Duration after : setup_.announce_after) announcements_.emplace(now + after, what);
}

std::string Supervisor::remove(const Address& address) {
  const auto there = in_kernel().find(address);
  if (there == in_kernel().end()) return {};
  std::string error;
  for (const Result<>& removed : remove(there->second)) {
    if (!removed) error = removed.error().context;
  }
  in_kernel_->erase(address);
  return error;
}

std::vector<Result<>> Supervisor::remove(const std::vector<KernelAddress>& places) {
  addresses_->mute(places);
  for (const KernelAddress& a : places) {
    if (a.address.family == Address::Family::V6) muted_[a.address] = boot_time_now() + kMuted;
  }
  return addresses_->remove(places);
}

void Supervisor::unmute_due(Instant now) {
  std::vector<Address> due;
  std::erase_if(muted_, [&](const auto& entry) {
    if (entry.second > now) return false;
    due.push_back(entry.first);
    return true;
  });
  if (!due.empty()) addresses_->unmute(due);
}

void Supervisor::carry_out(Release& m) {
  held_.erase(m.address);
  const std::string error = remove(m.address);
  if (m.ticket != 0) report(Released{m.ticket, m.address, error});
}

void Supervisor::carry_out(DropAll& m) {
  std::string error;
  std::vector<Address> found = drop_all(error);
  report(Dropped{m.ticket, std::move(found), error});
}

void Supervisor::carry_out(Announce& m) {
  const Instant now = boot_time_now();
  const Announcement what{m.address, m.interface, false};
  announce_now(what);
  for (const Duration after : setup_.announce_after) announcements_.emplace(now + after, what);
}

void Supervisor::carry_out(Ping& m) { report(Pong{m.number}); }

const Supervisor::Addresses& Supervisor::in_kernel() {
  if (!in_kernel_) {
    in_kernel_.emplace();
    auto all = addresses_->list();
    list_error_ = all ? std::string() : all.error().context;
    if (!all) report(Notice{true, "supervisor: " + list_error_});
    if (all) {
      for (KernelAddress& a : *all) (*in_kernel_)[a.address].push_back(std::move(a));
    }
  }
  return *in_kernel_;
}

std::vector<Address> Supervisor::drop_all(std::string& error) {
  std::vector<KernelAddress> doomed;
  std::vector<Address> found;
  for (const auto& [address, held] : held_) found.push_back(address);
  std::set<Address> ours(found.begin(), found.end());
  for (const PublicAddress& a : configured_) ours.insert(a.address);
  held_.clear();
  next_renewal_ = kNever;
  // Twice: the second look proves that nothing is left.
  for (int attempt = 0; attempt < 2; ++attempt) {
    in_kernel_.reset();
    doomed.clear();
    for (const auto& [address, places] : in_kernel()) {
      if (!ours.contains(address)) continue;
      doomed.insert(doomed.end(), places.begin(), places.end());
      if (std::find(found.begin(), found.end(), address) == found.end()) found.push_back(address);
    }
    if (doomed.empty()) {
      error = list_error_;  // nothing seen is nothing there only if it could be looked at
      break;
    }
    for (const Result<>& removed : remove(doomed)) {
      if (!removed) error = removed.error().context;
    }
  }
  in_kernel_.reset();
  return found;
}

void Supervisor::look_at_gate(Instant now) {
  if (held_.empty()) return;
  if (gate_open()) {
    last_open_until_ = to_instant(gate_->open_until());
    return;
  }
  std::string error;
  std::vector<Address> dropped = drop_all(error);
  // A gate that was shut on purpose, before its time, was shut somewhere before `now`.
  if (gate_) last_open_until_ = std::max(last_open_until_, to_instant(gate_->open_until()));
  const Duration late = boot_time_now() - std::min(last_open_until_, now);
  if (!error.empty()) report(Notice{true, "supervisor: public addresses may still be here: " + error});
  if (late > setup_.drop_allowance / 2) {
    report(Notice{true, fmt::format("supervisor: dropped {} public addresses {:.1f} ms after the lease ran out; {:.0f} ms "
                                    "are allowed for (is real-time scheduling permitted?)",
                                    dropped.size(), static_cast<double>(late.count()) / 1000.0,
                                    static_cast<double>(setup_.drop_allowance.count()) / 1000.0)});
  }
  report(Lapsed{dropped, late});
  end_connections({dropped.begin(), dropped.end()});
}

// The daemon does that too, when it runs. One that hangs leaves it to us: sockets outlive their address in the kernel,
// and what a client has not acknowledged would be sent again from here, beside the next owner.
void Supervisor::end_connections(const std::set<Address>& of) {
  if (const auto ended = destroy_connections(of); !ended) report(Notice{true, "supervisor: " + ended.error().context});
}

void Supervisor::renew(Instant now) {
  if (held_.empty() || now < next_renewal_) return;
  next_renewal_ = now + renewal_period(setup_.lifetime);
  std::vector<AddressToPut> all;
  for (const auto& [address, held] : held_) all.push_back({address, held.prefix, held.interface});
  if (!gate_open()) return;
  const std::vector<Result<>> results = addresses_->put(all, setup_.lifetime);
  for (std::size_t i = 0; i < all.size(); ++i) {
    Held& held = held_[all[i].address];
    const std::string error = results[i] ? std::string() : results[i].error().context;
    if (!error.empty() && error != held.renewal_error) report(Lost{all[i].address, error});
    held.renewal_error = error;
  }
  look_at_gate(boot_time_now());  // it may have lapsed while we renewed
}

void Supervisor::announce_now(const Announcement& what) {
  const Result<> sent = sender_.announce(what.address, what.interface);
  if (!sent && !announce_failed_) report(Notice{true, "supervisor: " + sent.error().context});
  announce_failed_ = !sent;
}

void Supervisor::announce_due(Instant now) {
  while (!announcements_.empty() && announcements_.begin()->first <= now) {
    const Announcement what = announcements_.begin()->second;
    announcements_.erase(announcements_.begin());
    const auto held = held_.find(what.address);
    if (!what.only_while_held || (held != held_.end() && held->second.interface == what.interface)) announce_now(what);
  }
}

void Supervisor::schedule(Instant now) {
  Instant next = kNever;
  if (!held_.empty()) next = std::min(next_renewal_, gate_ ? to_instant(gate_->open_until()) : now);
  if (!announcements_.empty()) next = std::min(next, announcements_.begin()->first);
  for (const auto& [address, until] : muted_) next = std::min(next, until);
  itimerspec when{};
  if (next != kNever) {
    // Microseconds are cut off below; one more, so that the lapse is seen at the first wake-up.
    const std::int64_t us = std::max<std::int64_t>(next.time_since_epoch().count(), 0) + 1;
    when.it_value.tv_sec = us / 1'000'000;
    when.it_value.tv_nsec = (us % 1'000'000) * 1000;
  }
  ::timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
}

void Supervisor::daemon_ended() {
  // Commands that are still in the socket are not carried out: nobody lives who answers for them.
  if (setup_.incarnation == 0) return;  // it never said who it is, so it held nothing
  const Result<bool> closed = close_gate_of(setup_.gate_path, setup_.daemon_pid);
  if (closed && !*closed) return;  // the next daemon is here already: addresses and peers are its own to see to
  std::string error;
  const std::vector<Address> dropped = drop_all(error);
  // FENCED is a promise. Where it cannot be kept the peers wait for the lease and the kernel for its own limit.
  if (closed && error.empty()) tell_peers();
  std::set<Address> silent(dropped.begin(), dropped.end());
  for (const auto& [address, until] : muted_) silent.insert(address);  // released, and perhaps not yet ended by the daemon
  end_connections(silent);
  unmute_due(kNever);
}

void Supervisor::tell_peers() {
  struct Nobody final : ZmtpSender::Listener {
    void on_connected(ZmtpSender&) override {}
    void on_disconnected(ZmtpSender&, bool) override {}
    void on_turned_away(ZmtpSender&, const std::string&) override {}
  } nobody;
  const auto loop = EventLoop::create();
  if (!loop) return;
  ZmtpConnection::ReadBuffer buffer(ZmtpConnection::kReadBuffer);
  const Bytes message = encode(Fenced{setup_.self, setup_.incarnation});
  std::vector<std::unique_ptr<ZmtpSender>> senders;
  for (const PeerAddress& peer : setup_.peers) {
    if (peer.pnn == setup_.self) continue;
    SenderConfig config{setup_.address, peer.address, setup_.port, std::nullopt, 1, message.size()};
    if (setup_.key) config.key = curve_pair(*setup_.key);
    senders.push_back(std::make_unique<ZmtpSender>(**loop, std::move(config), buffer, nobody));
    (void)senders.back()->put({}, message);
  }
  const Instant end = boot_time_now() + kFencedLimit;
  for (Instant now = boot_time_now(); now < end; now = boot_time_now()) {
    if (std::ranges::all_of(senders, [](const auto& sender) { return sender->drained(); })) return;
    (*loop)->run_once(end - now);
  }
}

void Supervisor::report(const Report& report) {
  if (socket_ < 0) return;
  reports_.push_back(encode(report));
  flush_reports();
}

void Supervisor::flush_reports() {
  while (!reports_.empty() && socket_ >= 0) {
    const Bytes& first = reports_.front();
    if (::send(socket_, first.data(), first.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;  // full: later; gone: read tells
    reports_.pop_front();
  }
}

}  // namespace tdbmesh::ipfailover::supervisor
