#pragma once
// dbtool's command line. Pure.

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "db/base/bytes.h"
#include "db/base/result.h"
#include "tools/ctl/options.h"

namespace tdbmesh::dbtool {

enum class Encoding { Text, Hex, Base64, Raw };

struct Arguments {
  Encoding encoding = Encoding::Text;
  std::optional<bool> decode;        // unset: if stdout is a terminal
  bool json = false;
  bool headers = false;              // digest: over the record headers too
  std::vector<std::string> files;    // --files: read these directories, not the live node
  std::string socket;
  int timelimit = 10;                // seconds
  bool replace = false;              // import: into a database that has records
  std::string format;                // export: tdb or backup; empty: by the file's name
  int changes = 0;                   // watch: end after so many changes; 0: never
  std::string verb;
  std::vector<std::string> args;
};

[[nodiscard]] std::variant<Arguments, ctl::StopHere> parse_arguments(std::vector<std::string> words);
[[nodiscard]] std::string usage();

// Keys and values as typed. Text knows C escapes (\0, \n, \xNN).
[[nodiscard]] Result<Bytes> typed_bytes(const std::string& text, Encoding encoding);
[[nodiscard]] std::string shown_bytes(BytesView bytes, Encoding encoding);

}  // namespace tdbmesh::dbtool
