#pragma once
// A process and all that it started: to say what hangs, and to end it whole. Reads /proc.
//
// A process belongs to the tree of `root` if its parents lead there, or if it is in the process group `root`
// (so that one whose parent has ended is found too). A service that made itself a daemon with a session of its
// own is in neither, and is left alone.

#include <sys/types.h>

#include <string>
#include <vector>

namespace tdbmesh {

[[nodiscard]] std::vector<pid_t> process_tree(pid_t root);
// For each process: pid, parent, state, command, what it waits for in the kernel, and its kernel stack where that
// may be read. Bounded.
[[nodiscard]] std::string describe_tree(pid_t root);
// SIGKILL to all of them. `root` must be a child that was not waited for yet, so that its pid is still its own.
void kill_tree(pid_t root);

}  // namespace tdbmesh
