#pragma once
// The Samba-style text that ctdb.conf and tdbmesh.conf are written in: [section] lines, NAME = VALUE lines
// (indented or not), whole-line comments with '#' or ';', and a backslash at the end of a line that joins the
// next one to it. Values keep everything else, '#' and ';' included. Runs of blanks inside names count as one.
// Pure. (Ready-made ini parsers take an indented line for the continuation of the option above it.)

#include <string>
#include <string_view>
#include <vector>

#include "db/base/result.h"

namespace tdbmesh {

struct IniOption {
  std::string section;  // empty: before the first section
  std::string name;
  std::string value;
  int line = 0;         // where it began, from 1
  bool has_value = true;  // false: a line without '='
  friend bool operator==(const IniOption&, const IniOption&) = default;
};

struct IniText {
  std::vector<IniOption> options;
  struct Section {
    std::string name;
    int line = 0;
    friend bool operator==(const Section&, const Section&) = default;
  };
  std::vector<Section> sections;  // in order, empty ones too
};

// `origin` names the file in errors ("FILE:LINE: ...").
[[nodiscard]] Result<IniText> parse_ini(std::string_view text, const std::string& origin);

}  // namespace tdbmesh
