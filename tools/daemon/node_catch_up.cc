// Before this node joins: its persistent copies are brought near to those of a member, while commits go on there. What
// is left then is a few commits, settled in the view change; so the cluster's pause does not grow with the databases.

#include <fmt/format.h>

#include <algorithm>

#include "tools/daemon/node.h"

namespace tdbmesh {
namespace {

constexpr Duration kAskAgain = milliseconds(200);
// A member whose view is changing says so. Perhaps it waits for this very node: then joining helps, not asking.
constexpr unsigned kMostQuestions = 5;

}  // namespace

void Node::begin_catch_up(Pnn source) {
  catching_up_.emplace();
  catching_up_->source = source;
  catching_up_->since = now_;
  catching_up_->before = commits_.fetched();
  catching_up_->ask_again = now_;
  catch_up_tick();
}

void Node::catch_up_tick() {
  if (!catching_up_ || catching_up_->ask_again > now_) return;
  if (!open_what_is_on_disk()) {
    catching_up_->ask_again = now_ + kAskAgain;  // what is there and cannot be read must not be fetched over
    return;
  }
  if (++catching_up_->asked > kMostQuestions) return catch_up_next();
  catching_up_->ask_again = now_ + kAskAgain;
  run(commits_.ask_copies(catching_up_->source, now_));
}

void Node::catch_up_copies(const CopiesKnown& known) {
  if (!catching_up_ || known.from != catching_up_->source || catching_up_->ask_again == kNever) return;
  if (known.installed.is_none()) return;  // asked again
  const auto own = commits_.versions();
  const Generation installed = control_.state().installed;
  for (const commit::Copies::Copy& theirs : known.copies) {
    const auto have = own.find(theirs.database);
    const CopyVersion ours = have == own.end() ? CopyVersion{} : have->second;
    // A replicated copy is emptied at each start, so nothing that was installed before counts for it.
    const bool lasting = theirs.kind == DatabaseKind::Persistent;
    const bool better =
        effective_version(theirs.version, known.installed) > effective_version(ours, lasting ? installed : Generation{});
    if ((better && theirs.version != ours) || have == own.end()) catching_up_->left.push_back(theirs);
  }
  catching_up_->ask_again = kNever;
  catch_up_next();
}

void Node::catch_up_next() {
  CatchingUp& going = *catching_up_;
  if (!going.left.empty()) {
    const commit::Copies::Copy next = std::move(going.left.front());
    going.left.pop_front();
    const auto opened = attachments_.open(next.name, next.kind);
    if (!opened) {
      env_.log(LogLevel::Warning, fmt::format("cannot catch up with database {}: {}", next.name, opened.error().context));
      return catch_up_next();
    }
    going.fetching = next.database;
    return run(commits_.settle(next.database, going.source, CopyVersion{}, now_));
  }
  const Commits::Fetched& after = commits_.fetched();
  const CatchingUp done = std::move(going);
  catching_up_.reset();
  if (after.bytes > done.before.bytes || after.whole > done.before.whole) {
    env_.log(LogLevel::Notice,
             fmt::format("caught up with node {} before joining: {} databases whole, {} by their last commits, {} bytes of "
                         "records, {} ms",
                         to_string(done.source), after.whole - done.before.whole,
                         after.differences - done.before.differences, after.bytes - done.before.bytes,
                         std::chrono::duration_cast<std::chrono::milliseconds>(now_ - done.since).count()));
  }
  recovery::Actions out;
  control_.on_caught_up(done.source, now_, out);
  run(std::move(out));
}

void Node::catch_up_settled(const std::string& failure) {
  if (!failure.empty()) {
    // The view change settles it, or says that it cannot.
    env_.log(LogLevel::Warning, fmt::format("catching up with database {} failed: {}",
                                            to_string(*catching_up_->fetching), failure));
  }
  catching_up_->fetching.reset();
  catch_up_next();
}

}  // namespace tdbmesh
