// tdbmesh-supervisor FD PID REALTIME: started by tdbmeshd, never by hand. FD is its end of the socket pair, PID the
// daemon, REALTIME 1 if real-time scheduling is configured. See supervisor.h.

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ipfailover/supervisor.h"

namespace {

void become_urgent(bool realtime) {
  prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
  (void)mlockall(MCL_CURRENT);
  const int oom = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (oom >= 0) {
    (void)!::write(oom, "-1000", 5);
    ::close(oom);
  }
  if (!realtime) return;
  sched_param wanted{};
  wanted.sched_priority = 10;
  if (sched_setscheduler(0, SCHED_FIFO, &wanted) != 0) (void)setpriority(PRIO_PROCESS, 0, -20);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "tdbmesh-supervisor is started by tdbmeshd, not by hand\n");
    return 2;
  }
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
  ::setsid();
  if (::chdir("/") != 0) return 1;
  const int null = ::open("/dev/null", O_RDWR);
  for (const int fd : {0, 1, 2}) ::dup2(null, fd);
  if (null > 2) ::close(null);
  become_urgent(std::strcmp(argv[3], "1") == 0);
  auto supervisor = tdbmesh::ipfailover::supervisor::Supervisor::create(std::atoi(argv[1]), std::atoi(argv[2]));
  if (!supervisor) return 1;
  (*supervisor)->run();
  return 0;
}
