#pragma once
// What was decided lately and why, for `tdbmesh why`: a bounded ring. Pure; whoever decides writes one line.
//
//   log.note(DecisionLog::node(Pnn{2}), "unhealthy: 50.samba: ...", wall_clock);
//
// Subjects are plain words: "node 2", "ip 10.0.0.5". The wall clock is for people only.

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "db/base/ids.h"

namespace tdbmesh {

struct Decision {
  double time = 0;  // seconds since 1970
  std::string subject;
  std::string text;
};

class DecisionLog {
 public:
  static constexpr std::size_t kMost = 1000;
  static constexpr std::size_t kMostText = 1000;  // bytes of one line

  [[nodiscard]] static std::string node(Pnn pnn) { return "node " + to_string(pnn); }
  [[nodiscard]] static std::string ip(const std::string& address) { return "ip " + address; }

  // A repetition of the subject's newest line moves that line's time instead of adding one.
  void note(const std::string& subject, std::string text, double time) {
    if (text.size() > kMostText) text.resize(kMostText);
    for (char& c : text) {
      if (c == '\n' || c == '\t' || c == '\0') c = ' ';
    }
    for (auto at = ring_.rbegin(); at != ring_.rend(); ++at) {
      if (at->subject != subject) continue;
      if (at->text != text) break;
      at->time = time;
      return;
    }
    ring_.push_back({time, subject, std::move(text)});
    if (ring_.size() > kMost) ring_.pop_front();
  }
  // Oldest first, at most `most` newest ones.
  [[nodiscard]] std::vector<Decision> about(const std::string& subject, std::size_t most = 20) const {
    std::vector<Decision> found;
    for (auto at = ring_.rbegin(); at != ring_.rend() && found.size() < most; ++at) {
      if (at->subject == subject) found.insert(found.begin(), *at);
    }
    return found;
  }

 private:
  std::deque<Decision> ring_;
};

}  // namespace tdbmesh
