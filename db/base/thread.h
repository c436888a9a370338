#pragma once
// Threads beside the main one. Signals are for the main thread: none of them is ever delivered to these.

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace tdbmesh {

template <class Run>
[[nodiscard]] std::thread start_thread(Run&& run) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread started(std::forward<Run>(run));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return started;
}

}  // namespace tdbmesh
