#include "tools/ctl/node_words.h"

#include <utility>

namespace tdbmesh::ctl {

std::string flags_text(NodeFlags flags) {
  // The order is the ctdb tool's, and scripts compare the whole word.
  static constexpr std::pair<NodeFlags, const char*> kWords[] = {
      {kFlagDisconnected, "DISCONNECTED"}, {kFlagUnknown, "UNKNOWN"},     {kFlagDisabled, "DISABLED"},
      {kFlagBanned, "BANNED"},             {kFlagUnhealthy, "UNHEALTHY"}, {kFlagDeleted, "DELETED"},
      {kFlagStopped, "STOPPED"},           {kFlagsInactive, "INACTIVE"},
  };
  std::string text;
  for (const auto& [bits, word] : kWords) {
    if ((flags & bits) == 0) continue;
    if (!text.empty()) text += '|';
    text += word;
  }
  return text.empty() ? "OK" : text;
}

}  // namespace tdbmesh::ctl
