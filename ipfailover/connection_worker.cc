#include "ipfailover/connection_worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "db/base/thread.h"
#include "ipfailover/connections.h"

namespace tdbmesh::ipfailover {

ConnectionWorker::ConnectionWorker(std::function<void(const std::string&)> log) : log_(std::move(log)) {
  thread_ = start_thread([this] { run(); });
}

ConnectionWorker::~ConnectionWorker() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void ConnectionWorker::kill(const Address& address) {
  const std::lock_guard lock(mutex_);
  to_kill_.insert(address);
  changed_.notify_one();
}

void ConnectionWorker::tickle(const std::vector<ctdb::Connection>& connections) {
  if (connections.empty()) return;
  const std::lock_guard lock(mutex_);
  tickles_.emplace(boot_time_now(), Tickles{connections});
  changed_.notify_one();
}

void ConnectionWorker::set_held(const std::set<Address>& held) {
  const std::lock_guard lock(mutex_);
  held_ = held;
}

void ConnectionWorker::run() {
  pthread_setname_np(pthread_self(), "connections");
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (!to_kill_.empty()) {
      const std::set<Address> all = std::exchange(to_kill_, {});  // one look at the kernel's connections for all of them
      lock.unlock();
      const Result<std::size_t> ended = destroy_connections(all);
      if (!ended && !std::exchange(complained_, true)) log_(ended.error().context);
      lock.lock();
      continue;
    }
    const Instant now = boot_time_now();
    if (!tickles_.empty() && tickles_.begin()->first <= now) {
      Tickles due = std::move(tickles_.begin()->second);
      tickles_.erase(tickles_.begin());
      std::erase_if(due.connections,
                    [&](const ctdb::Connection& c) { return !held_.contains(host_only(c.server)); });
      lock.unlock();
      send(due);
      lock.lock();
      if (--due.left > 0 && !due.connections.empty()) tickles_.emplace(now + kInterval, std::move(due));
      continue;
    }
    if (tickles_.empty()) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, tickles_.begin()->first - now);
    }
  }
}

void ConnectionWorker::send(Tickles& tickles) {
  for (const ctdb::Connection& c : tickles.connections) {
    if (c.client.family != c.server.family || c.client.family == Address::Family::None) continue;
    // An ACK of nothing: whatever the client expects, it answers with what it does expect, and is then told by our
    // kernel, which knows no such connection, that it is over.
    const Result<> sent = sender_.send({c.server, c.client, 0, 0, false});
    if (!sent && !std::exchange(complained_, true)) log_(sent.error().context);
  }
}

}  // namespace tdbmesh::ipfailover
