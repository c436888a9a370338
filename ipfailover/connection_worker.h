#pragma once
// A thread for what is done to TCP connections when an address moves: ending those of an address that left, and
// tickling those of an address that came. With tens of thousands of connections both take longer than the event loop
// may stop for.
//
// All members may be called from any thread and return at once. `log` is called on the worker's thread.

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "db/base/time.h"
#include "ipfailover/public_address.h"
#include "ipfailover/raw_sender.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::ipfailover {

class ConnectionWorker {
 public:
  explicit ConnectionWorker(std::function<void(const std::string&)> log);
  ~ConnectionWorker();  // what is left undone stays undone
  ConnectionWorker(const ConnectionWorker&) = delete;
  ConnectionWorker& operator=(const ConnectionWorker&) = delete;

  void kill(const Address& address);
  // Each connection `kRepeats` times, `kInterval` apart, as long as its server address is held.
  void tickle(const std::vector<ctdb::Connection>& connections);
  void set_held(const std::set<Address>& held);

  static constexpr int kRepeats = 4;
  static constexpr Duration kInterval = milliseconds(1100);

 private:
  struct Tickles {
    std::vector<ctdb::Connection> connections;
    int left = kRepeats;
  };
  void run();
  void send(Tickles& tickles);

  std::function<void(const std::string&)> log_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<Address> to_kill_;               // guarded
  std::multimap<Instant, Tickles> tickles_;  // guarded
  std::set<Address> held_;                  // guarded
  bool stopping_ = false;                   // guarded
  bool complained_ = false;                 // the worker's
  RawSender sender_;                        // the worker's
  std::thread thread_;
};

}  // namespace tdbmesh::ipfailover
