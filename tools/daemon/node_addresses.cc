// Public addresses in the node: events of the kernel and of other nodes to the takeover core, its actions to the kernel.

#include "tools/daemon/node.h"

namespace tdbmesh {

void Node::on_kernel(const ipfailover::KernelEvent&) {}

}  // namespace tdbmesh
