#include "transport/cluster_key.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "db/base/check.h"
#include "transport/z85.h"

namespace tdbmesh {
namespace {

constexpr std::size_t kKeyText = 40;        // 32 bytes in Z85
constexpr std::size_t kMostFileBytes = 4096;  // comments included; a longer file is something else

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

bool is_z85_key(std::string_view text) { return text.size() == kKeyText && z85_decode(text); }

void decode_key(const std::string& text, zmtp::CurveKey& key) {
  auto bytes = z85_decode(text);
  TDBMESH_CHECK(bytes && bytes->size() == key.size());
  std::ranges::copy(*bytes, key.begin());
  sodium_memzero(bytes->data(), bytes->size());
}

std::string text_of(const zmtp::CurveKey& key) {
  return z85_encode({reinterpret_cast<const char*>(key.data()), key.size()});
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

}  // namespace

zmtp::CurvePair curve_pair(const ClusterKey& key) {
  zmtp::CurvePair pair;
  decode_key(key.public_key, pair.public_key);
  decode_key(key.secret_key, pair.secret_key);
  return pair;
}

Result<ClusterKey> generate_cluster_key() {
  const zmtp::CurvePair pair = zmtp::CurvePair::generate();
  return ClusterKey{text_of(pair.public_key), text_of(pair.secret_key)};
}

std::string format_cluster_key(const ClusterKey& key) {
  return fmt::format(
      "# Key of a tdbmesh cluster. The same file belongs on every node, mode 0600, and nowhere else:\n"
      "# who has it can join the cluster. Made by `tdbmesh keygen`.\n"
      "public {}\nsecret {}\n",
      key.public_key, key.secret_key);
}

Result<ClusterKey> parse_cluster_key(std::string_view text, const std::string& origin) {
  ClusterKey key;
  int line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const auto end = text.find('\n');
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line.front() == '#') continue;
    const auto space = line.find_first_of(" \t");
    const std::string_view word = line.substr(0, space);
    const std::string_view value = space == std::string_view::npos ? "" : trimmed(line.substr(space));
    if (word != "public" && word != "secret") {
      return failure(Fault::Malformed, fmt::format("{}:{}: expected 'public KEY' or 'secret KEY'", origin, line_number));
    }
    std::string& half = word == "public" ? key.public_key : key.secret_key;
    if (!half.empty()) {
      return failure(Fault::Malformed, fmt::format("{}:{}: a second {} key", origin, line_number, word));
    }
    if (!is_z85_key(value)) {
      return failure(Fault::Malformed,
                     fmt::format("{}:{}: the {} key is not 40 characters of Z85", origin, line_number, word));
    }
    half = value;
  }
  if (key.public_key.empty() || key.secret_key.empty()) {
    return failure(Fault::Malformed, fmt::format("{}: the {} key is missing", origin,
                                                 key.public_key.empty() ? "public" : "secret"));
  }
  const zmtp::CurvePair pair = curve_pair(key);
  zmtp::CurveKey derived{};
  if (crypto_scalarmult_base(derived.data(), pair.secret_key.data()) != 0 || derived != pair.public_key) {
    return failure(Fault::Malformed, fmt::format("{}: public and secret key do not belong together", origin));
  }
  return key;
}

Result<ClusterKey> load_cluster_key(const std::string& path) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd() < 0) return system_failure("cannot open " + path);
  struct stat status {};
  if (fstat(file.fd(), &status) != 0) return system_failure("cannot look at " + path);
  if (!S_ISREG(status.st_mode)) return failure(Fault::Refused, path + ": not a regular file");
  if ((status.st_mode & 077) != 0) {
    return failure(Fault::Refused, fmt::format("{}: mode {:04o} lets others read the secret; run: chmod 600 {}", path,
                                               status.st_mode & 07777u, path));
  }
  std::string text(kMostFileBytes + 1, '\0');
  std::size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t got = ::read(file.fd(), text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_failure("cannot read " + path);
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  if (filled > kMostFileBytes) return failure(Fault::Malformed, path + ": too long for a cluster key");
  text.resize(filled);
  return parse_cluster_key(text, path);
}

Result<> save_cluster_key(const std::string& path, const ClusterKey& key) {
  const File file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file.fd() < 0) {
    if (errno == EEXIST) {
      return failure(Fault::Exists, path + " exists and may be in use; remove it first if you mean to replace it");
    }
    return system_failure("cannot create " + path);
  }
  const std::string text = format_cluster_key(key);
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t put = ::write(file.fd(), text.data() + written, text.size() - written);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      auto error = system_failure("cannot write " + path);
      ::unlink(path.c_str());  // half a key must not look like one
      return error;
    }
    written += static_cast<std::size_t>(put);
  }
  if (fsync(file.fd()) != 0) return system_failure("cannot sync " + path);
  return {};
}

}  // namespace tdbmesh
