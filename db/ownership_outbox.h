#pragma once
// What the parts of one Ownership have to say while they handle one event. Messages to oneself are not sent:
// they are queued here and handled in line, by the same handlers, before the event is finished.

#include <deque>
#include <utility>

#include "db/ownership_types.h"

namespace tdbmesh {

class RecordOutbox {
 public:
  RecordOutbox(Pnn self, DatabaseId database) : self_(self), database_(database) {}

  void generation(Generation g) { generation_ = g; }
  void send(Pnn to, record::Body body) {
    if (to == self_) {
      in_line_.push_back(std::move(body));
    } else {
      actions_.emplace_back(SendRecord{to, RecordMessage{generation_, database_, std::move(body)}});
    }
  }
  void act(RecordAction action) { actions_.push_back(std::move(action)); }
  void bump(std::optional<Pnn> peer, std::string reason) {
    actions_.emplace_back(Bump{peer, std::move(reason)});
  }

  [[nodiscard]] bool has_in_line() const { return !in_line_.empty(); }
  record::Body take_in_line() {
    record::Body body = std::move(in_line_.front());
    in_line_.pop_front();
    return body;
  }
  void forget_in_line() { in_line_.clear(); }
  [[nodiscard]] RecordActions take() { return std::exchange(actions_, {}); }

 private:
  Pnn self_;
  DatabaseId database_;
  Generation generation_;
  std::deque<record::Body> in_line_;
  RecordActions actions_;
};

}  // namespace tdbmesh
