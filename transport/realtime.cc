#include "transport/realtime.h"

#include <pthread.h>
#include <sched.h>

namespace tdbmesh {

bool realtime_is_allowed(int policy, int priority) {
  int policy_before = 0;
  sched_param before{};
  if (pthread_getschedparam(pthread_self(), &policy_before, &before) != 0) return false;
  sched_param wanted{};
  wanted.sched_priority = priority;
  if (pthread_setschedparam(pthread_self(), policy, &wanted) != 0) return false;
  pthread_setschedparam(pthread_self(), policy_before, &before);
  return true;
}

bool become_realtime_loop() {
  sched_param wanted{};
  wanted.sched_priority = kLoopPriority;
  return sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &wanted) == 0;
}

}  // namespace tdbmesh
