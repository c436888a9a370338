#pragma once
// The key of a cluster: one CURVE pair that every node holds and nobody else. It encrypts what nodes say to
// each other and proves that the other side belongs here. Lives in `cluster.key`, a text file of mode 0600:
//
//   # comment lines
//   public <40 characters Z85>
//   secret <40 characters Z85>
//
// Files are read and written at start only, from any thread.

#include <string>
#include <string_view>

#include "db/base/result.h"
#include "transport/curve.h"

namespace tdbmesh {

struct ClusterKey {
  std::string public_key;  // Z85, 40 characters
  std::string secret_key;  // Z85, 40 characters; never log it
  friend bool operator==(const ClusterKey&, const ClusterKey&) = default;
};

// The two halves as the 32 bytes that they stand for. The key must be a valid one, as all that the calls below give are.
[[nodiscard]] zmtp::CurvePair curve_pair(const ClusterKey& key);

// A new pair from the system's random source.
[[nodiscard]] Result<ClusterKey> generate_cluster_key();

// Text of a key file, and back. Parsing checks that the two halves belong together; `origin` names the file
// in errors. No error ever repeats the secret.
[[nodiscard]] std::string format_cluster_key(const ClusterKey& key);
[[nodiscard]] Result<ClusterKey> parse_cluster_key(std::string_view text, const std::string& origin);

// NotFound if there is no file; Refused if group or others may read it; Malformed with file and line.
[[nodiscard]] Result<ClusterKey> load_cluster_key(const std::string& path);

// Creates `path` with mode 0600 and syncs it; Exists rather than overwriting a key that may be in use.
[[nodiscard]] Result<> save_cluster_key(const std::string& path, const ClusterKey& key);

}  // namespace tdbmesh
