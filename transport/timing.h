#pragma once
// The constants of failure detection, election and view changes: one struct, three profiles. Any setting is
// safe (a view change waits for fence() whatever the values are); the rules beside the fields keep it fast
// and free of false alarms. All durations are on the local boot-time clock.

#include "db/base/time.h"

namespace tdbmesh {

struct Timing {
  Duration heartbeat = milliseconds(100);     // H: one heartbeat to each peer
  Duration silence = milliseconds(500);       // D: who is not heard for so long is lost
  Duration lease = milliseconds(400);         // L: >= 3 H; k L + A < D, or each removal waits
  Duration drop_allowance = milliseconds(50); // A: a fenced node has dropped its addresses so long after its lease
  Duration stagger = milliseconds(30);        // > usual round trip of a pre-vote
  Duration jitter = milliseconds(30);
  Duration round = milliseconds(300);         // one election round; > 2 x slowest usual fsync + 4 hops
  Duration round_jitter = milliseconds(100);
  Duration join_wait = milliseconds(100);     // joiners are taken together
  Duration cold_wait = milliseconds(300);     // first view: waits so long for the other configured nodes
  Duration prepare_limit = milliseconds(1000);  // silent to PREPARE for so long: left out; > D
  Duration link_patience = milliseconds(1000);  // two members do not hear each other for so long: one goes; > D
  Duration loop_limit = milliseconds(2000);   // event loop without progress: the node says it is stalled; >= 4 D
  Duration commit_limit = milliseconds(5000);
  Duration release_limit = milliseconds(5000);

  // F = k L + A with k = (1+rho)/(1-rho), rho = 1 % rate error per clock: so long after the last support that
  // anybody gave, a node's gate has closed on its own clock and its addresses are dropped.
  [[nodiscard]] constexpr Duration fence() const { return lease + lease * 203 / 10000 + Duration(1) + drop_allowance; }
  // Silence after which a voter no longer protects its leader from candidates.
  [[nodiscard]] constexpr Duration courtesy_silence() const { return silence * 7 / 10; }

  [[nodiscard]] static constexpr Timing standard() { return Timing{}; }
  // For quiet, fast networks: a silent node is replaced in about 0.2 s.
  [[nodiscard]] static constexpr Timing impatient() {
    Timing t;
    t.heartbeat = milliseconds(50);
    t.silence = milliseconds(200);
    t.lease = milliseconds(150);
    t.drop_allowance = milliseconds(30);
    t.stagger = t.jitter = milliseconds(20);
    t.round = milliseconds(200);
    t.loop_limit = milliseconds(1000);
    return t;
  }
  // For lossy networks and overloaded or paused machines: about 2.5 s.
  [[nodiscard]] static constexpr Timing patient() {
    Timing t;
    t.heartbeat = milliseconds(250);
    t.silence = milliseconds(2500);
    t.lease = milliseconds(2000);
    t.drop_allowance = milliseconds(100);
    t.stagger = t.jitter = milliseconds(60);
    t.round = milliseconds(600);
    t.join_wait = milliseconds(250);
    t.cold_wait = milliseconds(1000);
    t.prepare_limit = milliseconds(3000);
    t.link_patience = milliseconds(5000);
    t.loop_limit = milliseconds(10000);
    return t;
  }
};

}  // namespace tdbmesh
