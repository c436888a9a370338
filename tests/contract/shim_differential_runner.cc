// Executes a script of libtdb calls and prints everything a caller can see: return codes, error codes of failing
// calls, data, errno of failing opens. It links libtdb and nothing of ours, so that the differential test can run
// it twice, plain and with the shim preloaded, and compare the two outputs byte by byte.
//
// usage: shim_differential_runner DATABASE < script
//
// A line is one command: WORD HANDLE ARGUMENTS. Keys and values are text with %XX for any byte, `~` for empty,
// `#N` for N bytes of a pattern, `null:N` for dptr NULL with size N. `$DB` is the database of the command line.
// What depends on the order of hash chains is printed sorted. Other processes:
//   spawn C   a fresh process (exec)     fork C    a forked copy of this one, with its handles
//   C: CMD    run CMD in C, print it     C& CMD    start CMD in C      wait C    print what it answered
//   blocked C says whether C is still busy after a while     kill C    SIGKILL, and reap

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <tdb.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

std::string database_path;
std::map<std::string, tdb_context*> handles;
std::map<std::string, std::string> handle_keys;  // results of firstkey/nextkey
volatile std::sig_atomic_t alarm_flag = 0;

struct Child {
  pid_t pid = -1;
  int fd = -1;
};
std::map<std::string, Child> children;

// --- values -----------------------------------------------------------------------------------------------

struct Value {
  std::string bytes;
  bool null = false;
  std::size_t null_size = 0;
  [[nodiscard]] TDB_DATA data() {
    TDB_DATA d;
    d.dptr = null ? nullptr : reinterpret_cast<unsigned char*>(bytes.data());
    d.dsize = null ? null_size : bytes.size();
    return d;
  }
};

Value parse_value(const std::string& text) {
  Value v;
  if (text == "~") return v;
  if (text.rfind("null:", 0) == 0) {
    v.null = true;
    v.null_size = std::stoul(text.substr(5));
    return v;
  }
  if (text.size() > 1 && text[0] == '#') {
    const std::size_t size = std::stoul(text.substr(1));
    for (std::size_t i = 0; i < size; ++i) v.bytes += static_cast<char>('a' + (i * 7 + size) % 26);
    return v;
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() + 0) {
      v.bytes += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      v.bytes += text[i];
    }
  }
  return v;
}

std::string show(const unsigned char* data, std::size_t size) {
  static const char* digits = "0123456789abcdef";
  if (size > 200) {  // long ones by length and checksum
    std::uint64_t sum = 1469598103934665603u;
    for (std::size_t i = 0; i < size; ++i) sum = (sum ^ data[i]) * 1099511628211u;
    char line[64];
    std::snprintf(line, sizeof line, "<%zu bytes %016llx>", size, static_cast<unsigned long long>(sum));
    return line;
  }
  std::string out = "\"";
  for (std::size_t i = 0; i < size; ++i) {
    const unsigned char c = data[i];
    if (c > 0x20 && c < 0x7f && c != '%' && c != '"') {
      out += static_cast<char>(c);
    } else {
      out += '%';
      out += digits[c >> 4];
      out += digits[c & 15];
    }
  }
  return out + "\"";
}
std::string show(TDB_DATA d) { return d.dptr == nullptr ? "(null)" : show(d.dptr, d.dsize); }

std::string result(tdb_context* tdb, int rc, bool failed) {
  std::string out = std::to_string(rc);
  if (failed) out += std::string(" error ") + std::to_string(tdb_error(tdb)) + " (" + tdb_errorstr(tdb) + ")";
  return out;
}
std::string result(tdb_context* tdb, int rc) { return result(tdb, rc, rc < 0); }
// For calls whose failure sets no error: what tdb_error() says then is left over from before.
std::string plain_result(int rc) { return std::to_string(rc); }

int flag_word(const std::string& word) {
  static const std::map<std::string, int> words = {
      {"default", 0},         {"clear", TDB_CLEAR_IF_FIRST},   {"internal", TDB_INTERNAL},
      {"nolock", TDB_NOLOCK}, {"nommap", TDB_NOMMAP},          {"nosync", TDB_NOSYNC},
      {"seqnum", TDB_SEQNUM}, {"allow", TDB_ALLOW_NESTING},    {"disallow", TDB_DISALLOW_NESTING},
      {"hash", TDB_INCOMPATIBLE_HASH}, {"mutex", TDB_MUTEX_LOCKING}, {"volatile", TDB_VOLATILE},
      {"rdwr", O_RDWR},       {"rdonly", O_RDONLY},            {"wronly", O_WRONLY},
      {"creat", O_CREAT},     {"excl", O_EXCL},                {"trunc", O_TRUNC},
      {"cloexec", O_CLOEXEC}, {"replace", TDB_REPLACE},        {"insert", TDB_INSERT},
      {"modify", TDB_MODIFY}};
  int flags = 0;
  std::stringstream parts(word);
  std::string part;
  while (std::getline(parts, part, '|')) {
    const auto found = words.find(part);
    flags |= found == words.end() ? std::stoi(part, nullptr, 0) : found->second;
  }
  return flags;
}

void quiet_log(tdb_context*, enum tdb_debug_level, const char*, ...) {}

// --- callbacks ----------------------------------------------------------------------------------------------

struct Walk {
  std::vector<std::string> seen;
  int stop_after = -1;
  std::string action;
  std::vector<std::string> results;
};

int walk_step(tdb_context* tdb, TDB_DATA key, TDB_DATA data, void* private_data) {
  auto& walk = *static_cast<Walk*>(private_data);
  walk.seen.push_back(show(key) + "=" + show(data));
  if (walk.action == "delete") walk.results.push_back("delete " + result(tdb, tdb_delete(tdb, key)));
  if (walk.action == "store") {
    std::string grown(reinterpret_cast<char*>(data.dptr), data.dsize);
    grown += "+";
    TDB_DATA value{reinterpret_cast<unsigned char*>(grown.data()), grown.size()};
    walk.results.push_back("store " + result(tdb, tdb_store(tdb, key, value, TDB_REPLACE)));
  }
  if (walk.action == "fetch") {
    TDB_DATA got = tdb_fetch(tdb, key);
    walk.results.push_back(show(key) + " fetch " + show(got));
    std::free(got.dptr);
  }
  if (walk.action == "lock") {
    const int locked = tdb_chainlock(tdb, key);
    walk.results.push_back("lock " + result(tdb, locked) + " unlock " + plain_result(tdb_chainunlock(tdb, key)));
  }
  if (walk.action == "begin") walk.results.push_back("begin " + result(tdb, tdb_transaction_start(tdb)));
  if (walk.action == "nested") {
    Walk inner;
    walk.results.push_back("nested " + result(tdb, tdb_traverse_read(tdb, walk_step, &inner)));
  }
  if (walk.action == "lockall") {
    const int locked = tdb_lockall(tdb);
    walk.results.push_back("lockall " + result(tdb, locked));
    if (locked == 0) walk.results.push_back("unlockall " + result(tdb, tdb_unlockall(tdb)));
  }
  if (walk.action == "wipe") walk.results.push_back("wipe " + result(tdb, tdb_wipe_all(tdb)));
  return walk.stop_after >= 0 && static_cast<int>(walk.seen.size()) >= walk.stop_after ? 1 : 0;
}

std::string walked(Walk& walk, bool with_records) {
  std::string out;
  std::sort(walk.seen.begin(), walk.seen.end());
  std::sort(walk.results.begin(), walk.results.end());
  if (with_records) {
    for (const auto& line : walk.seen) out += "\n    " + line;
  }
  for (const auto& line : walk.results) out += "\n    " + line;
  return out;
}

struct Parse {
  std::string seen;
  tdb_context* tdb = nullptr;
  bool nested = false;
  int answer = 0;
};
int parse_step(TDB_DATA key, TDB_DATA data, void* private_data) {
  auto& parse = *static_cast<Parse*>(private_data);
  parse.seen = show(key) + "=" + show(data) + (data.dptr == nullptr ? " null" : "");
  if (parse.nested) parse.seen += " exists " + std::to_string(tdb_exists(parse.tdb, key));
  return parse.answer;
}

int check_step(TDB_DATA key, TDB_DATA, void* private_data) {
  ++*static_cast<int*>(private_data);
  return key.dsize == 3 && std::memcmp(key.dptr, "bad", 3) == 0 ? -1 : 0;
}

// --- commands -----------------------------------------------------------------------------------------------

using Words = std::vector<std::string>;
std::string run(const std::string& line);

// As a client of a daemon: a connection to a unix socket that stays.
std::string connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return std::to_string(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
}

std::string open_database(const Words& w) {  // open H PATH TDBFLAGS OPENFLAGS [HASHSIZE]
  static const tdb_logging_context log{quiet_log, nullptr};
  const std::string path = w.at(2) == "$DB" ? database_path : w.at(2).rfind("$DB", 0) == 0
                               ? database_path + w.at(2).substr(3) : w.at(2);
  errno = 0;
  const int size = w.size() > 5 ? std::stoi(w[5]) : 10007;
  tdb_context* tdb =
      tdb_open_ex(path.c_str(), size, flag_word(w.at(3)), flag_word(w.at(4)), 0600, &log, nullptr);
  if (tdb == nullptr) return std::string("NULL ") + std::strerror(errno);
  handles[w[1]] = tdb;
  return "ok";
}

// Chains held by the random script, so that it mostly unlocks what it locked.
class RandomScript {
 public:
  explicit RandomScript(std::uint64_t seed) : state_(seed * 2654435761u + 88172645463325252u) {}
  std::string next(bool transactions) {
    const std::uint64_t pick = below(1000);
    const std::string k = key();
    if (pick < 200) return "store h " + k + " " + value() + " " + mode();
    if (pick < 260) return "storev h " + mode() + " " + k + " " + value() + " ~ " + value();
    if (pick < 380) return "fetch h " + k;
    if (pick < 440) return "parse h " + k;
    if (pick < 500) return "delete h " + k;
    if (pick < 550) return "append h " + k + " " + value();
    if (pick < 600) return "exists h " + k;
    if (pick < 660) return choose({"lock", "rlock", "trylock", "tryrlock"}) + " h " + lock_key();
    if (pick < 760) return choose({"unlock", "unlock", "runlock"}) + " h " + lock_key();
    if (pick < 775) return choose({"lockall", "lockallr", "trylockall", "trylockallr"}) + " h";
    if (pick < 800) return choose({"unlockall", "unlockallr"}) + " h";
    if (pick < 820) return "traverse h";
    if (pick < 840) return "rtraverse h";
    if (pick < 850) return choose({"walk", "rwalk"}) + " h " + choose({"store", "delete", "fetch"});
    if (pick < 870) return "keys h";
    if (pick < 900) return "seqmoved h";
    if (pick < 905) return "wipe h";
    if (pick < 910) return "check h";
    if (pick < 920) return choose({"bumpseqnum", "enableseqnum"}) + " h";
    if (pick < 930) return "keychain h " + k;
    if (!transactions) return "exists h " + k;
    if (pick < 960) return choose({"begin", "begin", "trybegin"}) + " h";
    if (pick < 970) return "prepare h";
    if (pick < 990) return choose({"commit", "commit", "cancel"}) + " h";
    return "active h";
  }

 private:
  std::uint64_t below(std::uint64_t bound) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return (state_ >> 11) % bound;
  }
  std::string choose(const std::vector<std::string>& from) { return from[below(from.size())]; }
  std::string key() {
    const std::uint64_t n = below(24);
    if (n == 0) return "#600";
    if (n == 1) return "%00%01%02";
    if (n == 2) return "#511";
    if (n == 3) return "#512";
    return "key" + std::to_string(n);
  }
  std::string lock_key() { return "lock" + std::to_string(below(3)); }
  std::string value() {
    const std::uint64_t n = below(12);
    if (n == 0) return "~";
    if (n == 1) return "#" + std::to_string(below(9000));
    return "#" + std::to_string(below(60));
  }
  std::string mode() { return choose({"replace", "replace", "replace", "insert", "modify", "0"}); }
  std::uint64_t state_;
};

std::string random_script(const Words& w) {  // random SEED COUNT plain|transactions
  RandomScript script(std::stoull(w.at(1)));
  std::string out;
  for (long i = std::stol(w.at(2)); i > 0; --i) {
    const std::string line = script.next(w.at(3) == "transactions");
    // libtdb lets a caller undo the transaction's own lock on everything; that is not worth imitating.
    if (line.find("lockall") != std::string::npos && tdb_transaction_active(handles.at("h"))) continue;
    out += "\n  " + line + " -> " + run(line);
  }
  return out;
}

std::string data_command(tdb_context* t, const Words& w) {
  const std::string& op = w[0];
  if (op == "store") {
    Value k = parse_value(w.at(2)), v = parse_value(w.at(3));
    return result(t, tdb_store(t, k.data(), v.data(), w.size() > 4 ? flag_word(w[4]) : TDB_REPLACE));
  }
  if (op == "storev") {  // storev H MODE KEY PART...
    Value k = parse_value(w.at(3));
    std::vector<Value> parts;
    std::vector<TDB_DATA> data;
    for (std::size_t i = 4; i < w.size(); ++i) parts.push_back(parse_value(w[i]));
    for (auto& part : parts) data.push_back(part.data());
    return result(t, tdb_storev(t, k.data(), data.data(), static_cast<int>(data.size()), flag_word(w.at(2))));
  }
  Value k = parse_value(w.size() > 2 ? w[2] : "~");
  if (op == "fetch") {
    TDB_DATA got = tdb_fetch(t, k.data());
    std::string out = got.dptr == nullptr ? result(t, -1) : show(got);
    std::free(got.dptr);
    return out;
  }
  if (op == "parse" || op == "parsenested") {  // parse H KEY [ANSWER]
    Parse parse;
    parse.tdb = t;
    parse.nested = op == "parsenested";
    parse.answer = w.size() > 3 ? std::stoi(w[3]) : 7;
    const int rc = tdb_parse_record(t, k.data(), parse_step, &parse);
    return parse.seen.empty() ? result(t, rc) : std::to_string(rc) + " " + parse.seen;
  }
  if (op == "exists") return result(t, tdb_exists(t, k.data()), false);
  if (op == "delete") return result(t, tdb_delete(t, k.data()));
  if (op == "append") {
    Value v = parse_value(w.at(3));
    return result(t, tdb_append(t, k.data(), v.data()));
  }
  if (op == "keychain") {
    Walk walk;
    const int rc = tdb_traverse_key_chain(t, k.data(), walk_step, &walk);
    if (rc < 0) return result(t, rc);
    const std::string wanted = show(k.data()) + "=";  // what else is in the chain is a matter of layout
    for (const auto& line : walk.seen) {
      if (line.rfind(wanted, 0) == 0) return line;
    }
    return "none";
  }
  return "?";
}

std::string lock_command(tdb_context* t, const Words& w) {
  const std::string& op = w[0];
  Value k = parse_value(w.size() > 2 ? w[2] : "~");
  if (op == "lock") return result(t, tdb_chainlock(t, k.data()));
  if (op == "trylock") return result(t, tdb_chainlock_nonblock(t, k.data()));
  if (op == "unlock") return plain_result(tdb_chainunlock(t, k.data()));
  if (op == "rlock") return result(t, tdb_chainlock_read(t, k.data()));
  if (op == "tryrlock") return result(t, tdb_chainlock_read_nonblock(t, k.data()));
  if (op == "runlock") return plain_result(tdb_chainunlock_read(t, k.data()));
  if (op == "mark") return result(t, tdb_chainlock_mark(t, k.data()));
  if (op == "unmark") return plain_result(tdb_chainlock_unmark(t, k.data()));
  if (op == "lockall") return result(t, tdb_lockall(t));
  if (op == "trylockall") return result(t, tdb_lockall_nonblock(t));
  if (op == "unlockall") return result(t, tdb_unlockall(t));
  if (op == "lockallr") return result(t, tdb_lockall_read(t));
  if (op == "trylockallr") return result(t, tdb_lockall_read_nonblock(t));
  if (op == "unlockallr") return result(t, tdb_unlockall_read(t));
  if (op == "markall") return result(t, tdb_lockall_mark(t));
  if (op == "unmarkall") return result(t, tdb_lockall_unmark(t));
  return "?";
}

std::string walk_command(tdb_context* t, const Words& w) {
  const std::string& op = w[0];
  Walk walk;
  if (op == "traverse" || op == "rtraverse") {
    const int rc = op == "traverse" ? tdb_traverse(t, walk_step, &walk) : tdb_traverse_read(t, walk_step, &walk);
    return result(t, rc) + walked(walk, true);
  }
  if (op == "count") return result(t, tdb_traverse(t, nullptr, nullptr));
  if (op == "stop") {  // stop H N
    walk.stop_after = std::stoi(w.at(2));
    const int rc = tdb_traverse(t, walk_step, &walk);
    return result(t, rc) + " seen " + std::to_string(walk.seen.size());
  }
  if (op == "walk" || op == "rwalk") {  // walk H ACTION
    walk.action = w.at(2);
    const int rc = op == "walk" ? tdb_traverse(t, walk_step, &walk) : tdb_traverse_read(t, walk_step, &walk);
    return result(t, rc) + walked(walk, true);
  }
  if (op == "keys") {
    std::vector<std::string> keys;
    TDB_DATA k = tdb_firstkey(t);
    if (k.dptr == nullptr) return "none";
    while (k.dptr != nullptr && keys.size() < 100000) {
      keys.push_back(show(k));
      TDB_DATA after = tdb_nextkey(t, k);
      std::free(k.dptr);
      k = after;
    }
    std::sort(keys.begin(), keys.end());
    std::string out;
    for (const auto& key : keys) out += "\n    " + key;
    return out;
  }
  return "?";
}

// Ending a transaction that is not there sets no error.
std::string transaction_result(tdb_context* t, int (*call)(tdb_context*)) {
  const bool there = tdb_transaction_active(t);
  const int rc = call(t);
  return there ? result(t, rc) : plain_result(rc);
}

// Calls that make sense on a file of libtdb's own format only; says whether each one failed.
std::string format_command(tdb_context* t, const Words& w) {
  const std::string& op = w[0];
  if (op == "repack") return result(t, tdb_repack(t));
  if (op == "rescue") return result(t, tdb_rescue(t, [](TDB_DATA, TDB_DATA, void*) {}, nullptr));
  if (op == "printfreelist") return result(t, tdb_printfreelist(t));
  if (op == "freelistsize") return result(t, tdb_freelist_size(t));
  if (op == "dumpall") return tdb_dump_all(t), "error " + std::to_string(tdb_error(t));
  if (op == "validate") {
    int entries = 0;
    return result(t, tdb_validate_freelist(t, &entries));
  }
  if (op == "summary") {
    char* text = tdb_summary(t);
    const bool none = text == nullptr;
    std::free(text);
    return none ? result(t, -1) : "some";
  }
  return "?";
}

std::string handle_command(tdb_context* t, const Words& w) {
  const std::string& op = w[0];
  if (op == "begin") return result(t, tdb_transaction_start(t));
  if (op == "trybegin") return result(t, tdb_transaction_start_nonblock(t));
  if (op == "prepare") return transaction_result(t, tdb_transaction_prepare_commit);
  if (op == "commit") return transaction_result(t, tdb_transaction_commit);
  if (op == "cancel") return transaction_result(t, tdb_transaction_cancel);
  if (op == "active") return tdb_transaction_active(t) ? "yes" : "no";
  if (op == "seqnum") return std::to_string(tdb_get_seqnum(t));
  if (op == "seqmoved") {  // libtdb counts twice for a record that outgrew its place: only whether, not how far
    static int last = 0;
    if (tdb_transaction_active(t)) return "in transaction";
    const int now = tdb_get_seqnum(t);
    return std::exchange(last, now) == now ? "same" : "moved";
  }
  if (op == "enableseqnum") return tdb_enable_seqnum(t), "done";
  if (op == "bumpseqnum") return tdb_increment_seqnum_nonblock(t), "done";
  if (op == "addflags") return tdb_add_flags(t, static_cast<unsigned>(flag_word(w.at(2)))), "done";
  if (op == "rmflags") return tdb_remove_flags(t, static_cast<unsigned>(flag_word(w.at(2)))), "done";
  if (op == "flags") return std::to_string(tdb_get_flags(t) & (TDB_SEQNUM | TDB_NOSYNC | TDB_ALLOW_NESTING |
                                                               TDB_DISALLOW_NESTING | TDB_CLEAR_IF_FIRST));
  if (op == "hashsize") return tdb_hash_size(t) > 0 ? "some" : "zero";
  if (op == "mapsize") return tdb_map_size(t) > 0 ? "some" : "zero";
  if (op == "maxdead") return tdb_set_max_dead(t, 5), "done";
  if (op == "name") return tdb_name(t) == database_path ? "the path" : tdb_name(t);
  if (op == "chmod") {  // chmod H MODE
    struct stat st {};
    const int rc = fchmod(tdb_fd(t), static_cast<mode_t>(std::stoi(w.at(2), nullptr, 8)));
    stat(database_path.c_str(), &st);
    char mode[16];
    std::snprintf(mode, sizeof mode, "%o", st.st_mode & 0777);
    return std::to_string(rc) + " " + mode;
  }
  if (op == "fdflags") {
    struct stat st {};
    if (fstat(tdb_fd(t), &st) != 0) return "no descriptor";
    return (fcntl(tdb_fd(t), F_GETFD) & FD_CLOEXEC) != 0 ? "cloexec" : "inherited";
  }
  if (op == "wipe") return result(t, tdb_wipe_all(t));
  if (op == "check") {
    int count = 0;
    const int rc = tdb_check(t, check_step, &count);
    return rc == 0 ? "0 records " + std::to_string(count) : plain_result(rc);
  }
  if (op == "reopen") {
    const int rc = tdb_reopen(t);
    if (rc != 0) handles.erase(w[1]);
    return std::to_string(rc);
  }
  if (op == "sigptr") return tdb_setalarm_sigptr(t, &alarm_flag), "done";
  if (op == "close") {
    handles.erase(w[1]);
    return std::to_string(tdb_close(t));
  }
  if (op == "logprivate") return tdb_get_logging_private(t) == nullptr ? "none" : "some";
  if (op == "logfn") return tdb_log_fn(t) == quiet_log ? "ours" : "other";
  return "?";
}

// --- processes ----------------------------------------------------------------------------------------------

void serve(int fd) {  // a child: one line in, one NUL-terminated answer out
  std::string line;
  char c;
  while (read(fd, &c, 1) == 1) {
    if (c != '\n') {
      line += c;
      continue;
    }
    std::string answer = run(line) + '\0';
    line.clear();
    if (write(fd, answer.data(), answer.size()) < 0) break;
  }
  std::_Exit(0);
}

std::string receive(const Child& child) {
  std::string out;
  char c;
  for (;;) {
    const ssize_t got = read(child.fd, &c, 1);
    if (got != 1) return out + "(gone)";
    if (c == '\0') return out;
    out += c;
  }
}

void send_line(const Child& child, const std::string& line) {
  const std::string text = line + "\n";
  if (write(child.fd, text.data(), text.size()) < 0) std::perror("write to child");
}

std::string make_child(const Words& w) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return "no socketpair";
  const pid_t pid = fork();
  if (pid == 0) {
    for (auto& [name, other] : children) close(other.fd);
    children.clear();
    close(pair[0]);
    if (w[0] == "fork") serve(pair[1]);
    const std::string fd = std::to_string(pair[1]);
    execl("/proc/self/exe", "runner", database_path.c_str(), fd.c_str(), nullptr);
    std::_Exit(127);
  }
  close(pair[1]);
  fcntl(pair[0], F_SETFD, FD_CLOEXEC);
  children[w.at(1)] = Child{pid, pair[0]};
  return "ok";
}

std::string process_command(const Words& w) {
  if (w[0] == "spawn" || w[0] == "fork") return make_child(w);
  Child& child = children.at(w.at(1));
  if (w[0] == "wait") return receive(child);
  if (w[0] == "blocked") {
    pollfd p{child.fd, POLLIN, 0};
    return poll(&p, 1, 250) == 0 ? "yes" : "no";
  }
  if (w[0] == "alarm") return kill(child.pid, SIGALRM) == 0 ? "sent" : "failed";
  kill(child.pid, w[0] == "kill" ? SIGKILL : SIGTERM);
  int status = 0;
  waitpid(child.pid, &status, 0);
  close(child.fd);
  children.erase(w[1]);
  return "gone";
}

std::string run(const std::string& line) {
  Words w;
  std::stringstream words(line);
  for (std::string word; words >> word;) w.push_back(word);
  if (w.empty()) return "";
  if (w[0].size() > 1 && (w[0].back() == ':' || w[0].back() == '&')) {
    const Child& child = children.at(w[0].substr(0, w[0].size() - 1));
    send_line(child, line.substr(line.find(w[0]) + w[0].size() + 1));
    return w[0].back() == '&' ? "started" : receive(child);
  }
  static const std::vector<std::string> processes = {"spawn", "fork", "wait", "blocked", "kill", "alarm"};
  if (std::find(processes.begin(), processes.end(), w[0]) != processes.end()) return process_command(w);
  if (w[0] == "open") return open_database(w);
  if (w[0] == "connect") return connect_to(w.at(1));
  if (w[0] == "seteuid") return std::to_string(seteuid(static_cast<uid_t>(std::stoul(w.at(1)))));
  if (w[0] == "random") return random_script(w);
  if (w[0] == "reopenall") return std::to_string(tdb_reopen_all(std::stoi(w.at(1))));
  if (w[0] == "raise") return alarm_flag = 1, "done";
  if (w[0] == "size") {
    struct stat st {};
    return stat(database_path.c_str(), &st) == 0 ? "exists" : "gone";
  }
  if (w[0] == "hash") {
    Value k = parse_value(w.at(1));
    TDB_DATA d = k.data();
    return std::to_string(tdb_jenkins_hash(&d));
  }
  const auto found = handles.find(w.at(1));
  if (found == handles.end()) return "no handle";
  for (const auto command : {data_command, lock_command, walk_command, format_command, handle_command}) {
    const std::string out = command(found->second, w);
    if (out != "?") return out;
  }
  return "unknown command";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::fprintf(stderr, "usage: %s DATABASE < script\n", argv[0]), 2;
  database_path = argv[1];
  struct sigaction on_alarm {};
  on_alarm.sa_handler = [](int) { alarm_flag = 1; };
  sigaction(SIGALRM, &on_alarm, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  if (argc > 2) serve(std::atoi(argv[2]));
  for (std::string line; std::getline(std::cin, line);) {
    if (line.empty() || line[0] == ';') continue;
    std::cout << line << " -> " << run(line) << "\n" << std::flush;
  }
  for (auto& [name, child] : children) {
    kill(child.pid, SIGKILL);
    waitpid(child.pid, nullptr, 0);
  }
}
