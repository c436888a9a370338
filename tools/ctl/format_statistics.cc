#include "tools/ctl/format_statistics.h"

#include <fmt/format.h>

#include <vector>

#include "tools/client/text.h"

namespace tdbmesh::ctl {
namespace {

using ctdb::Latency;
using ctdb::Statistics;

// One counter in the order of printing: its group ("" for none), its name, its value.
struct Counter {
  std::string_view group;
  std::string_view name;
  std::uint32_t value = 0;
};

std::vector<Counter> counters_of(const Statistics& s) {
  return {
      {"", "num_clients", s.num_clients},
      {"", "frozen", s.frozen},
      {"", "recovering", s.recovering},
      {"", "num_recoveries", s.num_recoveries},
      {"", "client_packets_sent", s.client_packets_sent},
      {"", "client_packets_recv", s.client_packets_recv},
      {"", "node_packets_sent", s.node_packets_sent},
      {"", "node_packets_recv", s.node_packets_recv},
      {"", "keepalive_packets_sent", s.keepalive_packets_sent},
      {"", "keepalive_packets_recv", s.keepalive_packets_recv},
      {"node", "req_call", s.node.req_call},
      {"node", "reply_call", s.node.reply_call},
      {"node", "req_dmaster", s.node.req_dmaster},
      {"node", "reply_dmaster", s.node.reply_dmaster},
      {"node", "reply_error", s.node.reply_error},
      {"node", "req_message", s.node.req_message},
      {"node", "req_control", s.node.req_control},
      {"node", "reply_control", s.node.reply_control},
      {"node", "req_tunnel", s.node.req_tunnel},
      {"client", "req_call", s.client.req_call},
      {"client", "req_message", s.client.req_message},
      {"client", "req_control", s.client.req_control},
      {"client", "req_tunnel", s.client.req_tunnel},
      {"timeouts", "call", s.timeouts.call},
      {"timeouts", "control", s.timeouts.control},
      {"timeouts", "traverse", s.timeouts.traverse},
      {"locks", "num_calls", s.locks.calls},
      {"locks", "num_current", s.locks.current},
      {"locks", "num_pending", s.locks.pending},
      {"locks", "num_failed", s.locks.failed},
      {"", "total_calls", s.total_calls},
      {"", "pending_calls", s.pending_calls},
      {"", "childwrite_calls", s.childwrite_calls},
      {"", "pending_childwrite_calls", s.pending_childwrite_calls},
      {"", "memory_used", s.memory_used},
      {"", "max_hop_count", s.max_hop_count},
      {"", "total_ro_delegations", s.total_ro_delegations},
      {"", "total_ro_revokes", s.total_ro_revokes},
  };
}

std::vector<std::pair<std::string_view, const Latency*>> machine_latencies_of(const Statistics& s) {
  return {{"reclock_ctdbd", &s.reclock_ctdbd},
          {"reclock_recd", &s.reclock_recd},
          {"call", &s.call_latency},
          {"lockwait", &s.locks.latency},
          {"childwrite", &s.childwrite_latency}};
}

double average(const Latency& l) { return l.count != 0 ? l.total / l.count : 0.0; }

std::string counter_text(std::string_view group, std::string_view name, std::uint32_t value) {
  return group.empty() ? fmt::format(" {:<22}    {:>10}\n", name, value) : fmt::format("     {:<22}{:>10}\n", name, value);
}

std::string buckets_text(std::string_view name, const ctdb::Buckets& buckets) {
  std::string text = fmt::format(" {}:", name);
  for (const std::uint32_t bucket : buckets) text += fmt::format(" {}", bucket);
  return text + "\n";
}

std::string latency_text(std::string_view name, const Latency& l) {
  return fmt::format(" {:<18} MIN/AVG/MAX     {:.6f}/{:.6f}/{:.6f} sec out of {}\n", name, l.min, average(l), l.max,
                     l.count);
}

Json json_latency(const Latency& l) {
  return {{"count", l.count}, {"min", l.min}, {"avg", average(l)}, {"max", l.max}};
}

std::vector<Counter> lock_counters_of(const ctdb::LockCounters& locks) {
  return {{"locks", "num_calls", locks.calls},
          {"locks", "num_current", locks.current},
          {"locks", "num_pending", locks.pending},
          {"locks", "num_failed", locks.failed}};
}

}  // namespace

std::string format_statistics(const Statistics& s) {
  std::string text = "CTDB version 1\n";
  text += fmt::format("Current time of statistics  :                {}\n", date_text(s.current.seconds));
  text += fmt::format("Statistics collected since  : {} {}\n", elapsed_text(s.current.seconds - s.started.seconds),
                      date_text(s.started.seconds));
  std::string_view group;
  for (const Counter& counter : counters_of(s)) {
    if (counter.group != group && !counter.group.empty()) text += fmt::format(" {}\n", counter.group);
    group = counter.group;
    text += counter_text(counter.group, counter.name, counter.value);
  }
  text += buckets_text("hop_count_buckets", s.hop_count_buckets);
  text += buckets_text("lock_buckets", s.locks.buckets);
  text += latency_text("locks_latency", s.locks.latency);
  text += latency_text("reclock_ctdbd", s.reclock_ctdbd);
  text += latency_text("reclock_recd", s.reclock_recd);
  text += latency_text("call_latency", s.call_latency);
  text += latency_text("childwrite_latency", s.childwrite_latency);
  return text;
}

std::string format_statistics_header(char separator) {
  std::string text = fmt::format("CTDB version{0}Current time of statistics{0}Statistics collected since{0}", separator);
  const Statistics none;
  for (const Counter& counter : counters_of(none)) {
    text += fmt::format("{}{}{}{}", counter.group, counter.group.empty() ? "" : ".", counter.name, separator);
  }
  for (const auto& [name, latency] : machine_latencies_of(none)) {
    text += fmt::format("num_{0}_latency{1}min_{0}_latency{1}avg_{0}_latency{1}max_{0}_latency{1}", name, separator);
  }
  return text + "\n";
}

std::string format_statistics_machine(const Statistics& s, char separator) {
  std::string text = fmt::format("1{0}{1}{0}{2}{0}", separator, s.current.seconds, s.started.seconds);
  for (const Counter& counter : counters_of(s)) text += fmt::format("{}{}", counter.value, separator);
  for (const auto& [name, latency] : machine_latencies_of(s)) {
    text += fmt::format("{1}{0}{2:.6f}{0}{3:.6f}{0}{4:.6f}{0}", separator, latency->count, latency->min,
                        average(*latency), latency->max);
  }
  return text + "\n";
}

Json json_statistics(const Statistics& s) {
  Json json{{"current_time", s.current.seconds}, {"collected_since", s.started.seconds}};
  for (const Counter& counter : counters_of(s)) {
    if (counter.group.empty()) {
      json[std::string(counter.name)] = counter.value;
    } else {
      json[std::string(counter.group)][std::string(counter.name)] = counter.value;
    }
  }
  json["hop_count_buckets"] = s.hop_count_buckets;
  json["lock_buckets"] = s.locks.buckets;
  for (const auto& [name, latency] : machine_latencies_of(s)) {
    json[std::string(name) + "_latency"] = json_latency(*latency);
  }
  return json;
}

std::string format_database_statistics(const std::string& name, const ctdb::DatabaseStatistics& s) {
  std::string text = fmt::format("DB Statistics {}\n", name);
  text += counter_text("", "db_ro_delegations", s.ro_delegations);
  text += counter_text("", "db_ro_revokes", s.ro_revokes);
  text += " locks\n";
  for (const Counter& counter : lock_counters_of(s.locks)) text += counter_text("locks", counter.name, counter.value);
  text += buckets_text("hop_count_buckets", s.hop_count_buckets);
  text += buckets_text("lock_buckets", s.locks.buckets);
  text += latency_text("locks_latency", s.locks.latency);
  text += latency_text("vacuum_latency", s.vacuum_latency);
  text += fmt::format(" Num Hot Keys:     {}\n", s.hot_keys.size());
  for (const auto& hot : s.hot_keys) text += fmt::format("     Count:{} Key:{}\n", hot.count, to_hex(hot.key));
  return text;
}

Json json_database_statistics(const std::string& name, const ctdb::DatabaseStatistics& s) {
  Json hot = Json::array();
  for (const auto& key : s.hot_keys) {
    if (key.count != 0) hot.push_back({{"count", key.count}, {"key_hex", to_hex(key.key)}});
  }
  Json locks = Json::object();
  for (const Counter& counter : lock_counters_of(s.locks)) locks[std::string(counter.name)] = counter.value;
  locks["buckets"] = s.locks.buckets;
  locks["latency"] = json_latency(s.locks.latency);
  return {{"name", name},
          {"ro_delegations", s.ro_delegations},
          {"ro_revokes", s.ro_revokes},
          {"locks", std::move(locks)},
          {"hop_count_buckets", s.hop_count_buckets},
          {"vacuum_latency", json_latency(s.vacuum_latency)},
          {"hot_keys", std::move(hot)}};
}

}  // namespace tdbmesh::ctl
