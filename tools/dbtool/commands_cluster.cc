// where, check and watch: what only several nodes together can tell, and what happens over time.

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "db/base/hash.h"
#include "db/lmdb_database.h"
#include "tools/client/text.h"
#include "tools/ctl/format_databases.h"
#include "tools/dbtool/commands.h"
#include "tools/dbtool/digest.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::dbtool {
namespace {

using ctdb::ControlOpcode;
using ctl::fail;
using ctl::Json;
using ctl::passed_on;

// tdbmesh's own control: where is this record. CTDB answers -1.
constexpr ControlOpcode kDbWhere{10002};

constexpr Duration kWatchEvery = std::chrono::milliseconds(200);

// Reads a whole copy in a child process: a damaged file may kill the reader. Empty text: it is sound.
std::string finding_in_copy(const std::string& path) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) return "cannot make a pipe for the check";
  const pid_t child = fork();
  if (child < 0) return "cannot start a process for the check";
  if (child == 0) {
    close(pipe_ends[0]);
    std::string finding;
    auto copy = LmdbDatabase::open(path, LmdbDatabase::Role::Inspector);
    if (!copy) {
      finding = copy.error().context;
    } else if (auto sound = (*copy)->check(); !sound) {
      finding = sound.error().context;
    }
    [[maybe_unused]] const ssize_t written = write(pipe_ends[1], finding.data(), finding.size());
    _exit(finding.empty() ? 0 : 1);
  }
  close(pipe_ends[1]);
  std::string finding;
  char buffer[1024];
  for (ssize_t got = 0; (got = read(pipe_ends[0], buffer, sizeof(buffer))) > 0;) {
    finding.append(buffer, static_cast<std::size_t>(got));
  }
  close(pipe_ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return fmt::format("the copy is damaged: reading it ended with signal {}", WTERMSIG(status));
  return finding.empty() && status != 0 ? "the copy is damaged" : finding;
}

// The sequence number on every active node; nullopt where the node did not answer.
Outcome<std::map<std::uint32_t, std::optional<std::uint64_t>>> seqnums(ctl::Session& session, DatabaseId id) {
  auto map = session.node_map();
  if (!map) return passed_on(map);
  std::vector<std::uint32_t> nodes;
  for (const auto& node : map->nodes) {
    if ((node.flags & kFlagsInactive) == 0) nodes.push_back(number(node.pnn));
  }
  const auto replies =
      session.client().control_many(ControlOpcode::GetDbSeqnum, nodes, ctdb::encode_padded_database(id), session.timeout());
  std::map<std::uint32_t, std::optional<std::uint64_t>> found;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    found[nodes[i]] = std::nullopt;
    if (!replies[i] || replies[i]->status != 0) continue;
    if (const auto seqnum = ctdb::decode_u64(replies[i]->data)) found[nodes[i]] = *seqnum;
  }
  return found;
}

// What is wrong with one database; empty: nothing.
Outcome<std::vector<std::string>> findings(Command& c, const DatabaseInfo& db) {
  std::vector<std::string> wrong;
  if (const std::string finding = finding_in_copy(db.path); !finding.empty()) wrong.push_back(finding);
  ctl::Session* session = c.source.session();
  if (session == nullptr) return wrong;
  auto health = session->text(ControlOpcode::DbGetHealth, session->own(), db.id);
  if (!health) return passed_on(health);
  if (!health->empty()) wrong.push_back("marked unhealthy: " + *health);
  if (db.is_volatile()) return wrong;
  // Commits go on while we ask, so one difference proves nothing; the same one for three times does.
  for (int round = 0;; ++round) {
    auto found = seqnums(*session, db.id);
    if (!found) return passed_on(found);
    std::string text;
    bool equal = true;
    for (const auto& [node, seqnum] : *found) {
      equal = equal && seqnum && *seqnum == found->begin()->second.value_or(0);
      text += fmt::format(" {}:{}", node, seqnum ? std::to_string(*seqnum) : "no answer");
    }
    if (equal) break;
    if (round == 2) {
      wrong.push_back("the nodes have different sequence numbers (node:seqnum):" + text);
      break;
    }
    std::this_thread::sleep_for(kWatchEvery);
  }
  return wrong;
}

Outcome<int> where_by_hand(Command& c, ctl::Session& session, const DatabaseInfo& database, const Bytes& key) {
  auto map = session.ask_for<ctdb::VnnMap>(ControlOpcode::GetVnnMap, session.own());
  if (!map) return passed_on(map);
  auto record = c.source.get(database, key);
  if (!record) return passed_on(record);
  Json json{{"database", database.name}, {"key", escape_c(key)}};
  std::string text;
  if (!map->map.empty()) {
    const std::uint32_t lmaster = number(map->map[ctdb_hash(key) % map->map.size()]);
    text += fmt::format("lmaster: {}\n", lmaster);
    json["lmaster"] = lmaster;
  }
  if (*record) {
    text += fmt::format("dmaster: {}\nrsn: {}\n", number((*record)->header.dmaster), (*record)->header.rsn);
    json["dmaster"] = number((*record)->header.dmaster);
    json["rsn"] = (*record)->header.rsn;
  } else {
    text += "no record\n";
  }
  c.console.show(text, std::move(json));
  return 0;
}

struct Seen {
  Sha256 value{};
  bool empty = false;
};

}  // namespace

Outcome<int> run_where(Command& c, const DatabaseInfo& database, const Bytes& key) {
  ctl::Session* session = c.source.session();
  if (session == nullptr) {
    auto record = c.source.get(database, key);
    if (!record) return passed_on(record);
    if (!*record) return fail(fmt::format("{}: no record with key '{}' in these files", database.name, escape_c(key)));
    c.console.show(record_text(database.name, key, (*record)->header, (*record)->value, c.arguments.encoding, c.decode()),
                   record_json(database.name, key, (*record)->header, (*record)->value));
    return 0;
  }
  const Bytes question =
      ByteWriter().put(number(database.id)).put(static_cast<std::uint32_t>(key.size())).put_bytes(key).bytes();
  auto reply = session->request(kDbWhere, session->own(), question);
  if (!reply) return passed_on(reply);
  if (reply->status != 0) return where_by_hand(c, *session, database, key);
  const std::string answer = reply->data.substr(0, reply->data.find('\0'));
  Json json = Json::parse(answer, nullptr, false);
  if (json.is_discarded() || !json.is_object()) return fail("the daemon's answer is not JSON: " + answer);
  std::string text;
  for (const auto& [name, value] : json.items()) {
    text += fmt::format("{}: {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  c.console.show(text, std::move(json));
  return 0;
}

Outcome<int> run_check(Command& c, const std::vector<DatabaseInfo>& databases) {
  std::string text;
  Json json = Json::array();
  bool all_sound = true;
  for (const DatabaseInfo& db : databases) {
    auto wrong = findings(c, db);
    if (!wrong) return passed_on(wrong);
    all_sound = all_sound && wrong->empty();
    text += fmt::format("{}: {}\n", db.name, wrong->empty() ? "OK" : wrong->front());
    for (std::size_t i = 1; i < wrong->size(); ++i) text += fmt::format("{}: {}\n", db.name, (*wrong)[i]);
    json.push_back({{"name", db.name}, {"ok", wrong->empty()}, {"findings", *wrong}});
  }
  c.console.show(text, std::move(json));
  if (all_sound) return 0;
  c.console.complain("some databases are not sound: a daemon that restarts fetches a good copy from the other nodes");
  return 1;
}

Outcome<int> run_watch(Command& c, const DatabaseInfo& database) {
  std::map<Bytes, Seen> known;
  bool first = true;
  int changes = 0;
  while (true) {
    std::map<Bytes, Seen> now;
    std::vector<std::pair<std::string, Json>> news;
    const auto tell = [&](const char* what, BytesView key, const RecordHeader* header, BytesView value) {
      Json json{{"change", what}};
      std::string text = fmt::format("{} {}\n", what, shown_bytes(key, c.arguments.encoding));
      if (header != nullptr) {
        json.update(record_json(database.name, key, *header, value));
        text = fmt::format("{} {}", what, record_text(database.name, key, *header, value, c.arguments.encoding, c.decode()));
      } else {
        json["key"] = escape_c(key);
        json["key_hex"] = to_hex(key);
      }
      news.emplace_back(std::move(text), std::move(json));
    };
    auto done = c.source.for_each(database, [&](BytesView key, const RecordHeader& header, BytesView value) {
      if (key == kSequenceNumberKey) return;  // rises with every commit; the commit is the news
      const Seen seen{sha256(value), value.empty()};
      const auto before = known.find(Bytes(key));
      now[Bytes(key)] = seen;
      if (first) return;
      const bool was_there = before != known.end() && !before->second.empty;
      if (!seen.empty && !was_there) tell("new", key, &header, value);
      if (!seen.empty && was_there && before->second.value != seen.value) tell("changed", key, &header, value);
    });
    if (!done) return passed_on(done);
    for (const auto& [key, seen] : known) {
      const auto still = now.find(key);
      if (!seen.empty && (still == now.end() || still->second.empty)) tell("deleted", key, nullptr, {});
    }
    for (const auto& [text, json] : news) {
      c.console.stream(text, json);
      if (++changes == c.arguments.changes) return 0;
    }
    known = std::move(now);
    first = false;
    std::this_thread::sleep_for(kWatchEvery);
  }
}

}  // namespace tdbmesh::dbtool
