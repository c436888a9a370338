#pragma once
// What a part of a node asks of the whole, doing nothing: a test overrides what it is about.

#include "tools/daemon/node_services.h"

namespace tdbmesh {

class IdleServices : public NodeServices {
 public:
  explicit IdleServices(Pnn self) : self_(self) {}
  [[nodiscard]] Pnn self() const override { return self_; }
  [[nodiscard]] Instant now() const override { return Instant{}; }
  [[nodiscard]] std::vector<Pnn> members() const override { return {Pnn{0}, Pnn{1}, Pnn{2}}; }
  [[nodiscard]] std::vector<Pnn> connected() const override { return members(); }
  void send_relay(Pnn, const RelayPayload&) override {}
  void deliver(Srvid, BytesView) override {}
  void send_message(Pnn, Srvid, BytesView) override {}
  void reply(const ReplyTo&, std::int32_t, Bytes, std::string) override {}
  void run_event(EventRequest, EventDone) override {}
  [[nodiscard]] std::string reload_nodes() override { return {}; }
  void note(const std::string&, std::string) override {}
  void leave_out(Pnn, const std::string&) override {}
  void run(RecordActions) override {}
  void run(CommitActions) override {}
  void run(recovery::Actions) override {}
  void leave(NodeFlags) override {}
  void stay(NodeFlags) override {}
  void shut_down() override {}

 private:
  Pnn self_;
};

}  // namespace tdbmesh
