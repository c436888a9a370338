// tdbmesh-etcd-lock [--key KEY] [--ttl SECONDS] URL...: a cluster lock in etcd (v3), for `cluster lock = !COMMAND`.
//
// Speaks CTDB's helper protocol: one byte on stdout ('0' held, '1' somebody else has it, '2' etcd did not answer,
// '3' it cannot work), then it stays while it holds the lock, and ends when it does not. SIGTERM, the end of its
// parent, or a lease that may have run out end it.
//
// The lock is a key that exists only under a lease. It is created in a transaction that succeeds only if the key is
// not there; the revision at which that happened is the fencing number: each beat looks whether the key still has it,
// so a key that was deleted or taken meanwhile is noticed though the lease lives. The lease is counted from the
// sending of the last request that renewed it, by the boot-time clock, and given up kMargin before etcd would.

#include <curl/curl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace {

using Json = nlohmann::json;

constexpr double kMargin = 1.0;            // seconds
constexpr std::size_t kMostAnswer = 1 << 20;

volatile sig_atomic_t asked_to_end = 0;
void on_signal(int) { asked_to_end = 1; }

double boot_seconds() {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

[[noreturn]] void end_with(char status, const std::string& why) {
  std::fprintf(stderr, "tdbmesh-etcd-lock: %s\n", why.c_str());
  (void)!::write(1, &status, 1);
  std::_Exit(1);
}

std::string base64(std::string_view bytes) {
  static const char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned value = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      value = value << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    }
    for (std::size_t j = 0; j < 4; ++j) text += i + j > bytes.size() ? '=' : kLetters[value >> (18 - 6 * j) & 63u];
  }
  return text;
}

std::size_t take(char* data, std::size_t one, std::size_t count, void* to) {
  auto* answer = static_cast<std::string*>(to);
  if (answer->size() + one * count > kMostAnswer) return 0;
  answer->append(data, one * count);
  return one * count;
}

class Etcd {
 public:
  Etcd(std::vector<std::string> urls, double limit) : urls_(std::move(urls)), limit_(limit), curl_(curl_easy_init()) {}
  ~Etcd() { curl_easy_cleanup(curl_); }
  Etcd(const Etcd&) = delete;
  Etcd& operator=(const Etcd&) = delete;

  // Asks one member after the other, the last one that answered first.
  std::optional<Json> ask(const std::string& path, const Json& question) {
    for (std::size_t tries = 0; tries < urls_.size(); ++tries, at_ = (at_ + 1) % urls_.size()) {
      if (auto answer = ask_one(urls_[at_] + path, question.dump())) return answer;
    }
    return std::nullopt;
  }
  [[nodiscard]] const std::string& trouble() const { return trouble_; }

 private:
  std::optional<Json> ask_one(const std::string& url, const std::string& question) {
    std::string answer;
    curl_easy_reset(curl_);
    curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDSIZE, static_cast<long>(question.size()));
    curl_easy_setopt(curl_, CURLOPT_POSTFIELDS, question.c_str());
    curl_easy_setopt(curl_, CURLOPT_TIMEOUT_MS, static_cast<long>(limit_ * 1000 / static_cast<double>(urls_.size())));
    curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl_, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &answer);
    const CURLcode done = curl_easy_perform(curl_);
    long status = 0;
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &status);
    if (done != CURLE_OK || status != 200) {
      trouble_ = url + ": " + (done != CURLE_OK ? curl_easy_strerror(done) : "status " + std::to_string(status));
      return std::nullopt;
    }
    Json json = Json::parse(answer, nullptr, false);
    if (json.is_discarded() || !json.is_object()) {
      trouble_ = url + ": an answer that is no JSON object";
      return std::nullopt;
    }
    return json;
  }

  std::vector<std::string> urls_;
  double limit_;
  CURL* curl_;
  std::size_t at_ = 0;
  std::string trouble_;
};

// etcd's gateway writes 64-bit numbers as strings, and leaves out zeros.
std::int64_t number(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return 0;
  if (found->is_number_integer()) return found->get<std::int64_t>();
  return found->is_string() ? std::strtoll(found->get_ref<const std::string&>().c_str(), nullptr, 10) : 0;
}

const Json& member(const Json& object, const char* name) {
  static const Json kNothing = Json::object();
  const auto found = object.find(name);
  return found != object.end() && found->is_object() ? *found : kNothing;
}

void release(Etcd& etcd, const std::string& lease) { (void)etcd.ask("/v3/lease/revoke", {{"ID", lease}}); }

// True while the key is there with our revision; nothing if etcd does not say.
std::optional<bool> still_ours(Etcd& etcd, const std::string& key, std::int64_t revision) {
  const auto answer = etcd.ask("/v3/kv/range", {{"key", key}});
  if (!answer) return std::nullopt;
  const auto entries = answer->find("kvs");
  if (entries == answer->end() || !entries->is_array() || entries->empty() || !entries->front().is_object()) return false;
  return number(entries->front(), "create_revision") == revision;
}

}  // namespace

int main(int argc, char** argv) {
  std::string key_name = "/tdbmesh/cluster-lock";
  long ttl = 5;
  std::vector<std::string> urls;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--key" && i + 1 < argc) {
      key_name = argv[++i];
    } else if (word == "--ttl" && i + 1 < argc) {
      ttl = std::strtol(argv[++i], nullptr, 10);
    } else {
      urls.push_back(word);
    }
  }
  if (urls.empty() || ttl < 3 || ttl > 3600) {
    end_with('3', "usage: tdbmesh-etcd-lock [--key KEY] [--ttl SECONDS (3 or more)] URL...");
  }
  for (std::string& url : urls) {
    if (url.rfind("http://", 0) != 0 && url.rfind("https://", 0) != 0) end_with('3', url + " is no http:// or https:// URL");
    while (url.back() == '/') url.pop_back();
  }
  struct sigaction action {};
  action.sa_handler = on_signal;  // without SA_RESTART: the pause between two beats ends
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  const pid_t parent = ::getppid();
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  curl_global_init(CURL_GLOBAL_DEFAULT);

  const double beat = static_cast<double>(ttl) / 5;
  Etcd etcd(urls, beat);
  const std::string key = base64(key_name);
  double renewed = boot_seconds();
  const auto granted = etcd.ask("/v3/lease/grant", {{"TTL", std::to_string(ttl)}});
  if (!granted) end_with('2', etcd.trouble());
  const std::int64_t lease_number = number(*granted, "ID");
  if (lease_number == 0) end_with('3', "etcd granted no lease");
  const std::string lease = std::to_string(lease_number);
  char host[256] = "?";
  (void)::gethostname(host, sizeof host - 1);
  const Json question = {
      {"compare", {{{"key", key}, {"target", "CREATE"}, {"result", "EQUAL"}, {"create_revision", "0"}}}},
      {"success", {{{"requestPut", {{"key", key}, {"value", base64(host)}, {"lease", lease}}}}}}};
  const auto created = etcd.ask("/v3/kv/txn", question);
  if (!created || !created->value("succeeded", false)) {
    const std::string why = created ? "another node holds " + key_name : etcd.trouble();
    release(etcd, lease);
    end_with(created ? '1' : '2', why);
  }
  const std::int64_t revision = number(member(*created, "header"), "revision");
  if (boot_seconds() - renewed >= static_cast<double>(ttl) - kMargin) end_with('2', "etcd answered too late");
  std::fprintf(stderr, "tdbmesh-etcd-lock: %s is held since revision %lld\n", key_name.c_str(),
               static_cast<long long>(revision));
  (void)!::write(1, "0", 1);

  std::string why;
  while (asked_to_end == 0 && ::getppid() == parent) {
    const double left = renewed + static_cast<double>(ttl) - kMargin - boot_seconds();
    if (left <= 0) {
      why = "the lease could not be renewed in time: " + etcd.trouble();
      break;
    }
    const double pause = left < beat ? left : beat;
    timespec wait{static_cast<time_t>(pause), static_cast<long>((pause - static_cast<double>(static_cast<time_t>(pause))) * 1e9)};
    (void)::nanosleep(&wait, nullptr);
    if (asked_to_end != 0) break;
    const double sent = boot_seconds();
    const auto kept = etcd.ask("/v3/lease/keepalive", {{"ID", lease}});
    if (!kept) continue;
    if (number(member(*kept, "result"), "TTL") <= 0) {
      why = "the lease has run out";
      break;
    }
    const auto ours = still_ours(etcd, key, revision);
    if (!ours) continue;
    if (!*ours) {
      why = "somebody took the key";
      break;
    }
    renewed = sent;
  }
  if (!why.empty()) std::fprintf(stderr, "tdbmesh-etcd-lock: lost: %s\n", why.c_str());
  release(etcd, lease);
  return why.empty() ? 0 : 1;
}
