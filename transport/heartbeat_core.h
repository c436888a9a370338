#pragma once
// Heartbeats: who is alive, who supports whom, and how long the own gate may stay open. Pure: the real-time
// thread (heartbeat_thread.h) and the simulator drive it, with bytes and times as arguments.
//
//   every H:  HEARTBEAT ->  each peer, who answers at once:  <- ANSWER{supported?, follows you?}
//   gate     = send time of the newest heartbeat that a majority of voters has supported, + L
//
// Time is the boot-time clock. Nothing here is thread safe: the owner guards the whole object with one mutex,
// held only for these calls (all are short). That mutex makes set_support() exact: when it has returned, no
// answer under the old table will be created, and the next snapshot tells when the last one was.
//
// Loop side:    set_peers, set_voters, set_support, set_announcement, permit_gate, close_gate,
//               note_loop_progress, set_link_count, snapshot
// Thread side:  tick, on_bytes, gate_until
//
// Construct it when the incarnation is durable, not before: it sends from the first tick on.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/ids.h"
#include "db/base/node_flags.h"
#include "db/base/result.h"
#include "db/base/time.h"
#include "transport/timing.h"

namespace tdbmesh {

inline constexpr std::size_t kMaxPeers = 256;            // pnns in one message
inline constexpr std::size_t kMaxAddressesHeld = 256;    // public addresses in one message
inline constexpr std::size_t kMaxAddressText = 64;       // bytes of one of them
inline constexpr std::uint32_t kHeartbeatVersion = 1;

// What the event loop says of this node; travels in each heartbeat.
struct Announcement {
  std::uint64_t term = 0;
  Generation installed;            // view in use in this life under an unbroken join; none if there is none
  Generation accepted;             // newest view accepted
  Generation persisted_installed;  // newest view ever installed, lives before included
  bool leading = false;
  bool fresh = false;              // has no state yet: neither votes nor supports beside voters that have
  Pnn leader = kNoPnn;             // whom this node follows (itself if it leads)
  NodeFlags flags = 0;
  std::uint32_t capabilities = 0;
  std::uint64_t config_epoch = 0;
  std::uint64_t file_digest = 0;   // of the nodes file
  std::uint32_t version = 0;       // protocol version of the node
  Duration uptime{0};              // of the daemon when it was announced
  bool rests_on_lock = false;      // the cluster lock stands in for the other node: nobody's support is needed
  std::vector<std::string> addresses;  // public addresses held
  friend bool operator==(const Announcement&, const Announcement&) = default;
};

// Data messages sent so far to one peer in one session of the data link. The receiver compares it with what
// arrived (mesh: a difference is a gap).
struct LinkCount {
  std::uint64_t session = 0;
  std::uint64_t sent = 0;
  friend bool operator==(const LinkCount&, const LinkCount&) = default;
};

struct Heartbeat {
  Pnn from = kNoPnn;
  Incarnation incarnation = 0;
  std::uint64_t seq = 0;
  Instant sent{};        // sender's clock
  Duration loop_age{0};  // since its event loop last made progress
  bool stalled = false;
  LinkCount link;        // towards the receiver
  std::vector<Pnn> hears;
  Announcement said;
  friend bool operator==(const Heartbeat&, const Heartbeat&) = default;
};

struct HeartbeatAnswer {
  Pnn from = kNoPnn;
  Incarnation incarnation = 0;
  Incarnation asker = 0;  // incarnation of the heartbeat answered
  std::uint64_t seq = 0;  // of the heartbeat answered
  Instant sent{};
  std::uint64_t term = 0;
  bool supported = false;
  bool follows = false;   // "you are my leader, in your term"
  friend bool operator==(const HeartbeatAnswer&, const HeartbeatAnswer&) = default;
};

// From a node's supervisor: this life of the daemon has ended, its gate is closed and its addresses are dropped.
struct Fenced {
  Pnn from = kNoPnn;
  Incarnation incarnation = 0;
  friend bool operator==(const Fenced&, const Fenced&) = default;
};

[[nodiscard]] Bytes encode(const Heartbeat& message);
[[nodiscard]] Bytes encode(const HeartbeatAnswer& message);
[[nodiscard]] Bytes encode(const Fenced& message);
// Exactly one of the three; Malformed for everything else.
struct HeartbeatPacket {
  std::optional<Heartbeat> heartbeat;
  std::optional<HeartbeatAnswer> answer;
  std::optional<Fenced> fenced;
};
[[nodiscard]] Result<HeartbeatPacket> decode_heartbeat_packet(BytesView bytes);

// Who may be supported: members of the newest accepted view, under their present join.
struct SupportEntry {
  Incarnation incarnation = 0;
  Generation min_installed;  // the member's join
  friend bool operator==(const SupportEntry&, const SupportEntry&) = default;
};
struct SupportTable {
  std::uint64_t serial = 0;              // grows with each table; snapshot() tells which one is in force
  std::map<Pnn, SupportEntry> entries;   // this node's own entry says whether it supports itself
  friend bool operator==(const SupportTable&, const SupportTable&) = default;
};

// Whose support opens the own gate. needed = votes required; this node counts as one of them if it is a voter
// and supports itself. lock_vote_until: until then one more vote, given by the cluster lock.
struct VoterRule {
  std::vector<Pnn> voters;
  std::size_t needed = 1;
  Instant lock_vote_until = Instant::min();
  friend bool operator==(const VoterRule&, const VoterRule&) = default;
};

// What is known of one peer.
struct PeerHeartbeats {
  Pnn pnn{};
  Incarnation incarnation = 0;   // 0: never heard
  Instant last_heard{};          // newest heartbeat or answer; meaningless while incarnation is 0
  Instant silent_since{};        // = last_heard, or the end of an own pause: silence is judged from here
  Instant last_supported{};      // newest support this node gave to any life of the peer
  Instant last_followed = Instant::min();  // send time of the newest own heartbeat that it says it follows
  std::uint64_t term = 0;        // highest it has said, answers included
  Incarnation fenced = 0;        // newest life that its supervisor has reported dead
  bool hears_me = false;         // as it said last; that it did not during an own pause does not count for D afterwards
  std::vector<Pnn> hears;
  bool stalled = false;
  Duration loop_age{0};
  Duration largest_gap{0};       // longest time without a sign of life while it was not lost
  LinkCount link;                // its count of messages to this node
  std::uint64_t heartbeat_seq = 0;
  Announcement said;
  // Alive at `now`: heard, not silent for D, its loop running.
  [[nodiscard]] bool alive(Instant now, const Timing& timing) const {
    return incarnation != 0 && !stalled && now - silent_since < timing.silence;
  }
  friend bool operator==(const PeerHeartbeats&, const PeerHeartbeats&) = default;
};

struct HeartbeatTable {
  Instant at{};                         // when it was taken
  std::uint64_t support_serial = 0;     // support table in force
  std::vector<PeerHeartbeats> peers;    // ascending pnn
  Instant gate_until = Instant::min();  // own gate
  bool stalled = false;                 // the own loop made no progress for loop_limit
  std::uint64_t clock_jumps = 0;        // times the own clock was found to have stood still
  Duration longest_pause{0};            // of the thread itself
  [[nodiscard]] const PeerHeartbeats* peer(Pnn pnn) const;
};

struct OutgoingHeartbeat {
  Pnn to{};
  Bytes bytes;
};

class HeartbeatCore {
 public:
  // `now` is the start of this life: whoever may have been supported just before counts as supported now.
  HeartbeatCore(Pnn self, Incarnation incarnation, std::vector<Pnn> peers, const Timing& timing, Instant now);

  // ---- loop side ----
  void set_peers(std::vector<Pnn> peers, Instant now);  // without self; known peers keep what is known of them
  void set_voters(VoterRule rule) { voters_ = std::move(rule); }
  void set_support(SupportTable table) { support_ = std::move(table); }
  void set_announcement(Announcement said) { said_ = std::move(said); }
  // The gate opens only while permitted: after an INSTALL, until close_gate(). Support that was asked for
  // before the permission does not count.
  void permit_gate();
  void close_gate();
  void note_loop_progress(std::uint64_t counter, Instant now);
  void set_link_count(Pnn peer, LinkCount count);
  [[nodiscard]] HeartbeatTable snapshot(Instant now) const;

  // ---- thread side ----
  // Sends what is due and returns when to be called again. After a pause of its own (> D/2) the owner drains
  // all input before it takes a snapshot; the silence of peers is restarted here.
  Instant tick(Instant now, std::vector<OutgoingHeartbeat>& out);
  // The same moment as it is now: what arrives may have taken own heartbeats along, which puts it off.
  [[nodiscard]] Instant beat_due() const;
  // `from` is the authenticated sender. Malformed or foreign bytes are counted and ignored. True if the loop
  // should look at once: something changed that it decides on (new peer, term, view, leader, flags, gate).
  bool on_bytes(Pnn from, BytesView bytes, Instant now, std::vector<OutgoingHeartbeat>& out);
  // The gate word: open while now < gate_until(). Instant::min() = closed.
  [[nodiscard]] Instant gate_until() const { return gate_until_; }
  // Nearest moment at which a peer becomes lost by silence; kNever if none can.
  [[nodiscard]] Instant next_loss(Instant now) const;
  [[nodiscard]] std::uint64_t malformed() const { return malformed_; }

  // Planted bugs, for showing that the simulator's checkers see them. Never set in production.
  struct TestHooks {
    bool lease_from_arrival = false;  // counterexample 3
    bool support_ignores_join = false;  // counterexample 5
  };
  void set_test_hooks(const TestHooks& hooks) { hooks_ = hooks; }

 private:
  struct Peer {
    PeerHeartbeats seen;
    std::uint64_t seq = 0;             // newest own heartbeat sent to it
    std::map<std::uint64_t, Instant> sent;  // send times of own heartbeats not too old to be answered
    Instant beat_due{};                     // of the next own heartbeat to it; the first one at once
    Instant supported_sent = Instant::min();  // send time of the newest own heartbeat it supported
    LinkCount link_out;
    std::optional<Duration> clock_offset;  // its clock minus ours, the best recent bound from below
    Instant clock_seen{};
  };

  void notice_pause(Instant now);
  void notice_clock(Peer& peer, Instant peer_sent, Instant now);
  bool on_heartbeat(Peer& peer, Heartbeat message, Instant now, std::vector<OutgoingHeartbeat>& out);
  bool on_answer(Peer& peer, const HeartbeatAnswer& message, Instant now);
  void sign_of_life(Peer& peer, Instant now);
  [[nodiscard]] bool supports(Pnn who, Incarnation incarnation, Generation installed) const;
  void beat(Instant now, Duration early, std::vector<OutgoingHeartbeat>& out);
  void renew_gate(Instant now);
  [[nodiscard]] bool stalled(Instant now) const { return now - loop_progress_at_ > timing_.loop_limit; }

  Pnn self_;
  Incarnation incarnation_;
  Timing timing_;
  std::map<Pnn, Peer> peers_;
  VoterRule voters_;
  SupportTable support_;
  Announcement said_;
  bool permitted_ = false;
  Instant gate_until_ = Instant::min();
  std::uint64_t loop_counter_ = 0;
  Instant loop_progress_at_{};
  Instant last_active_{};
  Instant ticked_{};
  Instant heard_again_by_ = Instant::min();  // so long after an own pause peers may still say that they do not hear it
  Duration longest_pause_{0};
  std::uint64_t clock_jumps_ = 0;
  std::uint64_t malformed_ = 0;
  TestHooks hooks_;
};

}  // namespace tdbmesh
