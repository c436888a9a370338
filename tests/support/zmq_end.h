#pragma once
// ZeroMQ's end of a connection in the place of a node, with the options that a mesh of ZeroMQ's sockets sets.

#include <zmq.h>

#include <array>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/support/mesh_network.h"

namespace tdbmesh {

class ZmqEnd {
 public:
  ZmqEnd() = default;
  ~ZmqEnd() {
    if (socket_ != nullptr) zmq_close(socket_);
    zmq_ctx_shutdown(context_);
    if (doorkeeper_.joinable()) doorkeeper_.join();
    zmq_ctx_term(context_);
  }
  ZmqEnd(const ZmqEnd&) = delete;
  ZmqEnd& operator=(const ZmqEnd&) = delete;

  void push_to(int node, const std::optional<ClusterKey>& key, int from) {
    open(ZMQ_PUSH);
    set(ZMQ_RECONNECT_IVL, 10);
    set(ZMQ_HEARTBEAT_IVL, 200);
    if (key) {
      set(ZMQ_CURVE_SERVERKEY, key->public_key);
      set(ZMQ_CURVE_PUBLICKEY, key->public_key);
      set(ZMQ_CURVE_SECRETKEY, key->secret_key);
    }
    const std::string endpoint = fmt::format("tcp://{}:0;{}:{}", MeshNetwork::address(from), MeshNetwork::address(node), MeshNetwork::kPort);
    ASSERT_EQ(zmq_connect(socket_, endpoint.c_str()), 0);
  }
  void pull_at(int node, const std::optional<ClusterKey>& key) {
    open(ZMQ_PULL);
    if (key) {
      set(ZMQ_CURVE_SERVER, 1);
      set(ZMQ_CURVE_SECRETKEY, key->secret_key);
    }
    ASSERT_EQ(zmq_bind(socket_, fmt::format("tcp://{}:{}", MeshNetwork::address(node), MeshNetwork::kPort).c_str()), 0);
  }
  // Before pull_at(): ZeroMQ asks somebody who lets nobody in.
  void let_nobody_in() {
    void* zap = zmq_socket(context_, ZMQ_REP);
    ASSERT_EQ(zmq_bind(zap, "inproc://zeromq.zap.01"), 0);
    zap_domain_ = "tests";
    doorkeeper_ = std::thread([zap] {
      std::vector<Bytes> request;
      while (receive(zap, 0, request)) {
        const std::array<Bytes, 6> reply{"1.0", request.at(1), "400", "refused", "", ""};
        for (std::size_t i = 0; i < reply.size(); ++i) {
          zmq_send(zap, reply[i].data(), reply[i].size(), i + 1 < reply.size() ? ZMQ_SNDMORE : 0);
        }
      }
      zmq_close(zap);
    });
  }

  void send(const std::vector<Bytes>& frames) {
    for (std::size_t i = 0; i < frames.size(); ++i) {
      zmq_send(socket_, frames[i].data(), frames[i].size(), i + 1 < frames.size() ? ZMQ_SNDMORE : 0);
    }
  }
  // The frames of a message that has arrived; false if none has.
  bool take(std::vector<Bytes>& frames) { return receive(socket_, ZMQ_DONTWAIT, frames); }

 private:
  static bool receive(void* socket, int flags, std::vector<Bytes>& frames) {
    frames.clear();
    for (int more = 1; more != 0;) {
      zmq_msg_t message;
      zmq_msg_init(&message);
      const bool got = zmq_msg_recv(&message, socket, frames.empty() ? flags : 0) >= 0;
      if (got) frames.emplace_back(static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message));
      more = got ? zmq_msg_more(&message) : 0;
      zmq_msg_close(&message);
      if (!got) return false;
    }
    return true;
  }
  void open(int type) {
    socket_ = zmq_socket(context_, type);
    set(ZMQ_LINGER, 0);
    if (!zap_domain_.empty()) set(ZMQ_ZAP_DOMAIN, zap_domain_);
  }
  void set(int option, int value) { zmq_setsockopt(socket_, option, &value, sizeof value); }
  void set(int option, const std::string& value) { zmq_setsockopt(socket_, option, value.data(), value.size()); }

  void* context_ = zmq_ctx_new();
  void* socket_ = nullptr;
  std::string zap_domain_;
  std::thread doorkeeper_;
};

}  // namespace tdbmesh
