#include "transport/arrivals.h"

#include <algorithm>

namespace tdbmesh {

Arrivals::Verdict Arrivals::take(const Envelope& envelope) {
  Verdict verdict;
  if (envelope.incarnation < incarnation_) return {true};
  if (envelope.incarnation > incarnation_) {
    verdict.new_life = true;
    incarnation_ = envelope.incarnation;
    session_ = connection_ = sequence_ = told_missing_ = 0;
    behind_since_ = kNever;
  }
  verdict.stale = envelope.session < session_ || envelope.connection < connection_;
  if (verdict.stale) return verdict;
  if (envelope.session > session_) {
    // The first contact of two lives, or else the sender forgot that it knew us: what it sent before is not
    // accounted for.
    verdict.gap = session_ != 0;
    session_ = envelope.session;
    sequence_ = told_missing_ = 0;
  }
  connection_ = envelope.connection;
  const bool counts_only = envelope.kind == Envelope::kCounts;
  verdict.stale = !counts_only && envelope.sequence <= sequence_;
  if (verdict.stale) return verdict;
  verdict.gap = verdict.gap || envelope.sequence > sequence_ + (counts_only ? 0 : 1);
  sequence_ = std::max(sequence_, envelope.sequence);
  return verdict;
}

bool Arrivals::is_behind(Incarnation incarnation, LinkCount said, Instant now) {
  if (incarnation < incarnation_) return false;
  if (incarnation == incarnation_ && said.session < session_) return false;
  const bool same = incarnation == incarnation_ && said.session == session_;
  const std::uint64_t arrived = same ? sequence_ : 0;
  if (said.sent <= arrived || (same && said.sent <= told_missing_)) {
    behind_since_ = kNever;
    return false;
  }
  // As long as something arrives the rest may be on its way.
  if (behind_since_ == kNever || behind_at_ != arrived) {
    behind_since_ = now;
    behind_at_ = arrived;
  }
  if (now - behind_since_ < kPatience) return false;
  behind_since_ = kNever;
  if (same) told_missing_ = said.sent;
  return true;
}

}  // namespace tdbmesh
