#include "tools/dbtool/decode.h"

#include <fmt/format.h>

#include "tools/client/g_lock_value.h"
#include "tools/client/text.h"

namespace tdbmesh::dbtool {
namespace {

// Samba's keys mostly end in a NUL.
std::string_view without_nul(std::string_view text) {
  while (!text.empty() && text.back() == '\0') text.remove_suffix(1);
  return text;
}

std::string hidden(BytesView secret) {
  return secret.empty() ? "(none)" : fmt::format("(hidden, {} bytes)", secret.size());
}

std::string time_text(std::uint32_t epoch) {
  if (epoch == 0) return "never";
  // Samba's largest time, and those of older versions.
  if (epoch == 0x7C54A97Fu || epoch == 0xFFFFFFFFu || epoch == 0x7FFFFFFFu) return "no limit";
  return date_text(epoch);
}

std::optional<std::uint32_t> only_u32(BytesView value) {
  ByteReader in(value);
  const auto number = in.get<std::uint32_t>();
  if (!in.ok() || in.remaining() != 0) return std::nullopt;
  return number;
}

// The letters that smbpasswd and pdbedit use for the account control bits.
std::string account_flags(std::uint32_t bits) {
  static constexpr std::pair<std::uint32_t, char> kLetters[] = {{0x0004, 'N'}, {0x0001, 'D'}, {0x0002, 'H'}, {0x0020, 'T'},
                                                                {0x0010, 'U'}, {0x0080, 'W'}, {0x0100, 'S'}, {0x0040, 'I'},
                                                                {0x0200, 'X'}, {0x0400, 'L'}, {0x0008, 'M'}};
  std::string text = "[";
  for (const auto& [bit, letter] : kLetters) {
    if ((bits & bit) != 0) text += letter;
  }
  return text + "]";
}

// ---- passdb: a user is a run of integers and counted byte strings.

std::string counted_text(ByteReader& in) {
  const auto length = in.get<std::uint32_t>();
  return escape_c(without_nul(in.get_bytes(length)));
}

std::string counted_secret(ByteReader& in) {
  const auto length = in.get<std::uint32_t>();
  return hidden(in.get_bytes(length));
}

std::optional<Fields> decode_user(BytesView value) {
  ByteReader in(value);
  Fields fields;
  std::uint32_t times[7];
  for (std::uint32_t& time : times) time = in.get<std::uint32_t>();
  for (const char* name : {"username", "domain", "nt_username", "full_name", "home_directory", "home_drive", "logon_script",
                           "profile_path", "description", "workstations", "unknown_string", "munged_dial"}) {
    const std::string text = counted_text(in);
    if (!text.empty()) fields.emplace_back(name, text);
  }
  fields.emplace_back("user_rid", std::to_string(in.get<std::uint32_t>()));
  fields.emplace_back("group_rid", std::to_string(in.get<std::uint32_t>()));
  fields.emplace_back("lm_password", counted_secret(in));
  fields.emplace_back("nt_password", counted_secret(in));
  fields.emplace_back("nt_password_history", counted_secret(in));
  fields.emplace_back("account_flags", account_flags(in.get<std::uint32_t>()));
  in.skip(2);  // hours per week
  in.skip(4);  // length of the bit map below, once more
  in.skip(in.get<std::uint32_t>());  // logon hours
  fields.emplace_back("bad_password_count", std::to_string(in.get<std::uint16_t>()));
  fields.emplace_back("logon_count", std::to_string(in.get<std::uint16_t>()));
  if (!in.ok()) return std::nullopt;
  static constexpr const char* kTimes[7] = {"logon_time",           "logoff_time",       "kickoff_time",
                                            "bad_password_time",    "password_last_set", "password_can_change",
                                            "password_must_change"};
  for (std::size_t i = 0; i < 7; ++i) fields.emplace_back(kTimes[i], time_text(times[i]));
  return fields;
}

std::optional<Fields> decode_passdb(std::string_view key, BytesView value) {
  if (key.starts_with("USER_")) return decode_user(value);
  if (key.starts_with("RID_")) return Fields{{"username", escape_c(without_nul(value))}};
  if (key == "NEXT_RID" || key.starts_with("INFO/")) {
    if (const auto number = only_u32(value)) return Fields{{"number", std::to_string(*number)}};
  }
  return std::nullopt;
}

// ---- idmap2: SID and id point at each other, as texts.

std::optional<Fields> decode_idmap(std::string_view key, BytesView value) {
  if (key.ends_with(" HWM")) {
    if (const auto number = only_u32(value)) return Fields{{"next_id", std::to_string(*number)}};
    return std::nullopt;
  }
  if (key == "IDMAP_VERSION") {
    if (const auto number = only_u32(value)) return Fields{{"version", std::to_string(*number)}};
    return std::nullopt;
  }
  if (key.starts_with("S-1-")) return Fields{{"id", escape_c(without_nul(value))}};
  if (key.starts_with("UID ") || key.starts_with("GID ")) return Fields{{"sid", escape_c(without_nul(value))}};
  return std::nullopt;
}

// ---- secrets: the key says what it is.

std::string guid_text(BytesView bytes) {
  ByteReader in(bytes);
  const auto low = in.get<std::uint32_t>();
  const auto middle = in.get<std::uint16_t>();
  const auto high = in.get<std::uint16_t>();
  const std::string rest = to_hex(in.rest());
  return fmt::format("{:08x}-{:04x}-{:04x}-{}-{}", low, middle, high, rest.substr(0, 4), rest.substr(4));
}

std::optional<Fields> decode_secret(std::string_view key, BytesView value) {
  if (key.starts_with("SECRETS/SID/")) {
    if (const auto sid = sid_text(value)) return Fields{{"sid", *sid}};
  } else if (key.starts_with("SECRETS/DOMGUID/") && value.size() == 16) {
    return Fields{{"guid", guid_text(value)}};
  } else if (key.starts_with("SECRETS/MACHINE_LAST_CHANGE_TIME/")) {
    if (const auto time = only_u32(value)) return Fields{{"changed", time_text(*time)}};
  } else if (key.starts_with("SECRETS/MACHINE_SEC_CHANNEL_TYPE/")) {
    if (const auto type = only_u32(value)) return Fields{{"channel_type", std::to_string(*type)}};
  } else if (key.starts_with("SECRETS/")) {
    return Fields{{"secret", hidden(value)}};
  }
  return std::nullopt;
}

// ---- g_lock

std::optional<Fields> decode_lock(BytesView value) {
  const auto lock = decode_g_lock(value);
  if (!lock) return std::nullopt;
  Fields fields;
  fields.emplace_back("exclusive", lock->exclusive.pid != 0 ? to_string(lock->exclusive) : "nobody");
  for (const ServerId& id : lock->shared) fields.emplace_back("shared", to_string(id));
  for (const ServerId& id : lock->ctdb_tool) fields.emplace_back("ctdb_tool", to_string(id));
  for (const GLockWatcher& watcher : lock->watchers) fields.emplace_back("waiting", to_string(watcher.who));
  fields.emplace_back("lock_epoch", std::to_string(lock->lock_epoch));
  if (!lock->user_data.empty()) fields.emplace_back("data", escape_c(lock->user_data));
  return fields;
}

}  // namespace

std::optional<std::string> sid_text(BytesView bytes) {
  constexpr std::size_t kMostSubAuthorities = 15;
  ByteReader in(bytes);
  const auto revision = in.get<std::uint8_t>();
  const auto count = in.get<std::uint8_t>();
  std::uint64_t authority = 0;
  for (int i = 0; i < 6; ++i) authority = (authority << 8) | in.get<std::uint8_t>();
  if (!in.ok() || revision != 1 || count > kMostSubAuthorities) return std::nullopt;
  std::string text = fmt::format("S-{}-{}", revision, authority);
  for (int i = 0; i < count; ++i) text += fmt::format("-{}", in.get<std::uint32_t>());
  if (!in.ok()) return std::nullopt;
  return text;
}

std::optional<Fields> decode_record(const std::string& database, BytesView key, BytesView value) {
  const std::string_view name = without_nul(key);
  if (key.size() == 23 && name == "__db_sequence_number__" && value.size() == 8) {
    return Fields{{"seqnum", std::to_string(ByteReader(value).get<std::uint64_t>())}};
  }
  if (value.empty()) return std::nullopt;
  if (database == "passdb.tdb") return decode_passdb(name, value);
  if (database == "idmap2.tdb" || database == "winbindd_idmap.tdb") return decode_idmap(name, value);
  if (database == "secrets.tdb") return decode_secret(name, value);
  if (database == kGLockDatabase) return decode_lock(value);
  return std::nullopt;
}

}  // namespace tdbmesh::dbtool
