#include "tools/daemon/ini_file.h"

#include <fmt/format.h>

namespace tdbmesh {
namespace {

constexpr std::string_view kBlank = " \t\r";

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string single_spaced(std::string_view text) {
  std::string result;
  for (const char c : trimmed(text)) {
    const bool blank = kBlank.find(c) != std::string_view::npos;
    if (blank && !result.empty() && result.back() == ' ') continue;
    result += blank ? ' ' : c;
  }
  return result;
}

}  // namespace

Result<IniText> parse_ini(std::string_view text, const std::string& origin) {
  IniText result;
  std::string section;
  int line_number = 0;
  while (!text.empty()) {
    const int first_line = line_number + 1;
    std::string line;
    bool joined = true;
    while (joined) {
      joined = false;
      if (text.empty()) break;
      ++line_number;
      const auto end = text.find('\n');
      std::string_view piece = trimmed(text.substr(0, end));
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      const bool comment = line.empty() && !piece.empty() && (piece.front() == '#' || piece.front() == ';');
      if (!comment && !piece.empty() && piece.back() == '\\') {
        piece.remove_suffix(1);
        joined = true;
      }
      line += piece;
    }
    if (line.find('\0') != std::string::npos) {
      return failure(Fault::Malformed, fmt::format("{}:{}: not a text file", origin, first_line));
    }
    const std::string_view content = trimmed(line);
    if (content.empty() || content.front() == '#' || content.front() == ';') continue;
    if (content.front() == '[') {
      if (content.back() != ']') {
        return failure(Fault::Malformed, fmt::format("{}:{}: a section is written [NAME]", origin, first_line));
      }
      section = single_spaced(content.substr(1, content.size() - 2));
      if (section.empty()) {
        return failure(Fault::Malformed, fmt::format("{}:{}: a section without a name", origin, first_line));
      }
      result.sections.push_back({section, first_line});
      continue;
    }
    const auto equals = content.find('=');
    IniOption option;
    option.section = section;
    option.name = single_spaced(content.substr(0, equals));
    option.has_value = equals != std::string_view::npos;
    if (option.has_value) option.value = trimmed(content.substr(equals + 1));
    option.line = first_line;
    if (option.name.empty()) {
      return failure(Fault::Malformed, fmt::format("{}:{}: a value without a name", origin, first_line));
    }
    result.options.push_back(std::move(option));
  }
  return result;
}

}  // namespace tdbmesh
