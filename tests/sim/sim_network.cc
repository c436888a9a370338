#include "tests/sim/sim_network.h"

#include <algorithm>
#include <utility>

namespace tdbmesh::sim {

bool SimNetwork::reachable(Pnn from, Pnn to) { return !world_.link(from, to).cut && processes_[to].up; }

void SimNetwork::process_started(Pnn pnn, Incarnation life, std::size_t nodes) {
  processes_[pnn] = {true, life};
  for (std::uint32_t i = 0; i < nodes; ++i) {
    const Pnn other{i};
    if (other == pnn) continue;
    Direction& out = direction(pnn, other);
    out.session = ++last_session_;
    out.sent = 0;
    out.to_life = 0;
    Direction& in = direction(other, pnn);
    in.from_life = 0;
    in.got_session = in.got = in.told = 0;
  }
}

void SimNetwork::process_died(Pnn pnn, std::size_t nodes) {
  processes_[pnn].up = false;
  for (std::uint32_t i = 0; i < nodes; ++i) {
    const Pnn other{i};
    if (other == pnn) continue;
    // What it had queued dies with it; what the kernel had taken may still arrive.
    Direction& out = direction(pnn, other);
    out.held.clear();
    if (!out.in_flight.empty()) out.in_flight.resize(world_.random().below(out.in_flight.size() + 1));
    direction(other, pnn).in_flight.clear();
  }
}

void SimNetwork::send(Pnn from, Pnn to, MessageKind kind, Bytes body) {
  if (tamper) tamper(kind, body);
  Direction& d = direction(from, to);
  queue(from, to, Message{processes_[from].life, d.session, ++d.sent, false, kind, std::move(body)});
}

void SimNetwork::queue(Pnn from, Pnn to, Message message) {
  Direction& d = direction(from, to);
  const LinkQuality& quality = world_.link(from, to);
  if (quality.cut && !d.was_cut) d.hold_while_cut = world_.random().chance(2);
  d.was_cut = quality.cut;
  if (quality.cut || d.broken_until > world_.now() || !reachable(from, to)) d.troubled = world_.now();
  if (d.broken_until > world_.now() || (quality.cut && !d.hold_while_cut)) return watch_counts(from, to);
  if (!reachable(from, to) || !d.held.empty()) {
    d.held.push_back(std::move(message));
    return retry(from, to);
  }
  if (quality.loss_percent > 0 && world_.random().below(2000) < quality.loss_percent) {
    return break_connection(from, to);  // this message goes with it
  }
  fly(from, to, std::move(message));
}

void SimNetwork::fly(Pnn from, Pnn to, Message message) {
  Direction& d = direction(from, to);
  const LinkQuality& quality = world_.link(from, to);
  Duration delay = quality.delay_least + world_.random().up_to(quality.delay_most - quality.delay_least);
  if (world_.random().below(100) < quality.loss_percent) {
    delay += milliseconds(200);
    d.troubled = world_.now() + delay;
  }
  d.newest_arrival = std::max(d.newest_arrival + Duration(1), world_.now() + delay);
  d.in_flight.push_back(std::move(message));
  world_.at(d.newest_arrival, [this, from, to] { arrive(from, to); });
}

void SimNetwork::arrive(Pnn from, Pnn to) {
  Direction& d = direction(from, to);
  if (d.in_flight.empty()) return;  // cut short since
  if (world_.link(from, to).cut) {
    // It was still under way when the cut came.
    d.troubled = world_.now();
    Message message = std::move(d.in_flight.front());
    d.in_flight.pop_front();
    if (!d.was_cut) d.hold_while_cut = world_.random().chance(2);
    d.was_cut = true;
    if (!d.hold_while_cut) return watch_counts(from, to);
    // Arrivals come in order, so it stays in front of what is held later.
    const auto behind = std::find_if(d.held.begin(), d.held.end(), [&](const Message& held) {
      return held.session > message.session || (held.session == message.session && held.sequence > message.sequence);
    });
    d.held.insert(behind, std::move(message));
    return retry(from, to);
  }
  const Message message = std::move(d.in_flight.front());
  d.in_flight.pop_front();
  receive(from, to, message);
}

void SimNetwork::receive(Pnn from, Pnn to, const Message& message) {
  Direction& d = direction(from, to);
  if (!processes_[to].up || message.from_life < d.from_life) return;
  bool gap = false;
  if (message.from_life > d.from_life) {
    d.from_life = message.from_life;
    d.got_session = d.got = d.told = 0;
    note_life(to, from, message.from_life);  // as the mesh does: what is said to it from now on is for this life
  }
  if (message.session < d.got_session) return;
  if (message.session > d.got_session) {
    gap = d.got_session != 0;
    d.got_session = message.session;
    d.got = d.told = 0;
  }
  if (!message.counts_only && message.sequence <= d.got) return;
  gap = gap || message.sequence > d.got + (message.counts_only ? 0 : 1);
  d.got = std::max(d.got, message.sequence);
  if (gap && !swallow_gaps) gap_(to, from);
  if (!message.counts_only) deliver_(to, from, message);
}

// A connection is tried again after 10 to 100 ms.
void SimNetwork::retry(Pnn from, Pnn to) {
  Direction& d = direction(from, to);
  if (d.retry_scheduled) return;
  d.retry_scheduled = true;
  world_.after(milliseconds(10) + world_.random().up_to(milliseconds(90)), [this, from, to] {
    Direction& again = direction(from, to);
    again.retry_scheduled = false;
    if (again.held.empty()) return;
    again.troubled = world_.now();
    if (!reachable(from, to)) return retry(from, to);
    std::deque<Message> held = std::move(again.held);
    again.held.clear();
    for (Message& message : held) fly(from, to, std::move(message));
  });
}

// Heartbeats carry the counts, so a lost tail shows after a second at the latest, if they arrive.
void SimNetwork::watch_counts(Pnn from, Pnn to) {
  if (world_.link(from, to).for_good && std::exchange(direction(from, to).watched, true)) return;
  const Incarnation life = processes_[from].life;
  const std::uint64_t session = direction(from, to).session;
  world_.after(seconds(1), [this, from, to, life, session] {
    Direction& d = direction(from, to);
    d.watched = false;
    if (!processes_[from].up || processes_[from].life != life || d.session != session) return;
    if (!reachable(from, to) || !d.held.empty() || !d.in_flight.empty()) return watch_counts(from, to);
    const bool same = d.from_life == life && d.got_session == session;
    if (d.from_life > life || (d.from_life == life && d.got_session > session)) return;
    if (d.sent <= (same ? d.got : 0) || (same && d.sent <= d.told)) return;
    if (same) d.told = d.sent;
    if (!swallow_gaps) gap_(to, from);
  });
}

Instant SimNetwork::troubled(Pnn a, Pnn b) { return std::max(direction(a, b).troubled, direction(b, a).troubled); }

void SimNetwork::forget(Pnn from, Pnn to) {
  Direction& d = direction(from, to);
  d.troubled = world_.now();
  d.held.clear();
  if (!d.in_flight.empty()) d.in_flight.resize(world_.random().below(d.in_flight.size() + 1));
  d.session = ++last_session_;
  d.sent = 0;
  Message counts;
  counts.from_life = processes_[from].life;
  counts.session = d.session;
  counts.counts_only = true;
  queue(from, to, std::move(counts));
}

void SimNetwork::break_connection(Pnn from, Pnn to) {
  Direction& d = direction(from, to);
  if (!d.in_flight.empty()) d.in_flight.resize(world_.random().below(d.in_flight.size() + 1));
  d.broken_until = world_.now() + world_.random().up_to(milliseconds(100));
  d.troubled = d.broken_until;
  watch_counts(from, to);
}

void SimNetwork::connect_twice(Pnn from, Pnn to) {
  Direction& d = direction(from, to);
  std::deque<Message> old = std::move(d.in_flight);
  d.in_flight.clear();
  for (Message& message : old) {
    world_.after(world_.random().up_to(milliseconds(50)), [this, from, to, message = std::move(message)] {
      if (reachable(from, to)) receive(from, to, message);
    });
  }
  forget(from, to);
}

void SimNetwork::note_life(Pnn from, Pnn to, Incarnation life) {
  Direction& d = direction(from, to);
  if (life <= d.to_life) return;
  const bool first = d.to_life == 0;
  d.to_life = life;
  if (!first) forget(from, to);
}

}  // namespace tdbmesh::sim
