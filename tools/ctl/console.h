#pragma once
// Where a verb's result goes: text as CTDB prints it, or JSON with --json. A verb gives both forms; only one
// of them reaches stdout. Text is written at once, so a long dump needs no memory.

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tdbmesh::ctl {

using Json = nlohmann::ordered_json;

// Texts from a daemon need not be UTF-8; JSON has to be.
[[nodiscard]] inline std::string json_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

class Console {
 public:
  using Sink = std::function<void(std::string_view)>;
  Console(bool json, Sink out, Sink err) : json_mode_(json), out_(std::move(out)), err_(std::move(err)) {}

  [[nodiscard]] bool json_mode() const { return json_mode_; }
  void text(std::string_view text) {
    if (!json_mode_) out_(text);
  }
  // The result as a whole.
  void show(std::string_view text, Json json) {
    if (json_mode_) {
      result_ = std::move(json);
    } else {
      out_(text);
    }
  }
  // One element of a result that is a list of unknown length (records of a database).
  void item(std::string_view text, const Json& json) {
    if (!json_mode_) {
      out_(text);
      return;
    }
    if (!result_.is_array()) result_ = Json::array();
    result_.push_back(json);
  }
  // One event of a result that has no end: with --json one line each.
  void stream(std::string_view text, const Json& json) { out_(json_mode_ ? json_text(json, -1) : std::string(text)); }
  void empty_list() {
    if (!result_.is_array()) result_ = Json::array();
  }
  // One line for stderr, without its newline.
  void complain(std::string_view line) { err_(std::string(line) + "\n"); }

  // The JSON result so far; a verb that shows nothing has done its work.
  [[nodiscard]] Json take_json() {
    Json taken = result_.is_null() ? Json{{"result", "ok"}} : std::move(result_);
    result_ = nullptr;
    return taken;
  }

 private:
  bool json_mode_;
  Sink out_;
  Sink err_;
  Json result_;
};

}  // namespace tdbmesh::ctl
