#pragma once
// Real-time scheduling, where the system allows it. Heartbeats come before everything, since a late one costs a lease; the
// event loop comes before ordinary processes, since every smbd of the cluster may wait for
// them: CTDB's daemon does the same.

namespace tdbmesh {

inline constexpr int kHeartbeatPriority = 10;  // SCHED_FIFO
inline constexpr int kLoopPriority = 1;        // SCHED_RR

// Tried on the calling thread for a moment, to say in the log what a thread that is made later will have.
[[nodiscard]] bool realtime_is_allowed(int policy, int priority);

// The calling thread from now on. Processes and threads that it makes later begin at ordinary priority. False, and
// nothing changed, if the system does not allow it.
bool become_realtime_loop();

}  // namespace tdbmesh
