#include "transport/cluster_key.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <cerrno>

#include <fmt/format.h>

#include "db/base/check.h"

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

bool is_z85_key(std::string_view text) {
  if (text.size() != kKeyText) return false;
  std::array<std::uint8_t, 32> raw{};
  return zmq_z85_decode(raw.data(), std::string(text).c_str()) != nullptr;
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

}  // namespace

zmtp::CurvePair curve_pair(const ClusterKey& key) {
  zmtp::CurvePair pair;
  TDBMESH_CHECK(zmq_z85_decode(pair.public_key.data(), key.public_key.c_str()) != nullptr &&
                zmq_z85_decode(pair.secret_key.data(), key.secret_key.c_str()) != nullptr);
  return pair;
}

Result<ClusterKey> generate_cluster_key() {
  std::array<char, kKeyText + 1> public_key{};
  std::array<char, kKeyText + 1> secret_key{};
  if (zmq_curve_keypair(public_key.data(), secret_key.data()) != 0) {
    return failure(Fault::Refused, "cannot make a cluster key: this libzmq was built without CURVE");
  }
  return ClusterKey{public_key.data(), secret_key.data()};
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
  std::array<char, kKeyText + 1> derived{};
  if (zmq_curve_public(derived.data(), key.secret_key.c_str()) != 0 || key.public_key != derived.data()) {
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
