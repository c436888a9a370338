#include "tools/ctl/format_databases.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tools/client/text.h"

namespace tdbmesh::ctl {
namespace {

using namespace ctdb;

bool has(const DatabaseLine& database, std::uint8_t flag) { return (database.flags & flag) != 0; }
const char* yes_no(bool value) { return value ? "yes" : "no"; }
int one_zero(bool value) { return value ? 1 : 0; }

struct FlagName {
  std::uint32_t bit;
  const char* name;
};
constexpr FlagName kRecordFlags[] = {
    {kRecordMigratedWithData, "MIGRATED_WITH_DATA"},   {kRecordVacuumMigrated, "VACUUM_MIGRATED"},
    {kRecordAutomatic, "AUTOMATIC"},                   {kRecordHaveDelegations, "RO_HAVE_DELEGATIONS"},
    {kRecordReadOnlyCopy, "RO_HAVE_READONLY"},         {kRecordRevoking, "RO_REVOKING_READONLY"},
    {kRecordRevokeComplete, "RO_REVOKE_COMPLETE"},
};

// CTDB prints "nobody" as the signed number.
int pnn_or_minus_one(Pnn pnn) { return pnn == kNoPnn ? -1 : static_cast<int>(number(pnn)); }

std::string joined(const std::vector<std::string>& names) { return fmt::format("{}", fmt::join(names, ",")); }

}  // namespace

std::string format_database_map(const std::vector<DatabaseLine>& databases) {
  std::string text = fmt::format("Number of databases:{}\n", databases.size());
  for (const DatabaseLine& db : databases) {
    text += fmt::format("dbid:0x{:08x} name:{} path:{}{}{}{}{}{}\n", number(db.id), db.name, db.path,
                        has(db, kDatabasePersistent) ? " PERSISTENT" : "", has(db, kDatabaseSticky) ? " STICKY" : "",
                        has(db, kDatabaseReadonly) ? " READONLY" : "", has(db, kDatabaseReplicated) ? " REPLICATED" : "",
                        db.health.empty() ? "" : " UNHEALTHY");
  }
  return text;
}

std::string format_database_map_machine(const std::vector<DatabaseLine>& databases, char separator) {
  const char s = separator;
  std::string text =
      fmt::format("{0}ID{0}Name{0}Path{0}Persistent{0}Sticky{0}Unhealthy{0}Readonly{0}Replicated{0}\n", s);
  for (const DatabaseLine& db : databases) {
    text += fmt::format("{0}0x{1:08X}{0}{2}{0}{3}{0}{4}{0}{5}{0}{6}{0}{7}{0}{8}{0}\n", s, number(db.id), db.name, db.path,
                        one_zero(has(db, kDatabasePersistent)), one_zero(has(db, kDatabaseSticky)),
                        one_zero(!db.health.empty()), one_zero(has(db, kDatabaseReadonly)),
                        one_zero(has(db, kDatabaseReplicated)));
  }
  return text;
}

std::string format_database_status(const DatabaseLine& db) {
  return fmt::format(
      "dbid: 0x{:08x}\nname: {}\npath: {}\nPERSISTENT: {}\nREPLICATED: {}\nSTICKY: {}\nREADONLY: {}\nHEALTH: {}\n",
      number(db.id), db.name, db.path, yes_no(has(db, kDatabasePersistent)), yes_no(has(db, kDatabaseReplicated)),
      yes_no(has(db, kDatabaseSticky)), yes_no(has(db, kDatabaseReadonly)), db.health.empty() ? "OK" : db.health);
}

Json json_database(const DatabaseLine& db) {
  return {{"id", to_string(db.id)},
          {"name", db.name},
          {"path", db.path},
          {"persistent", has(db, kDatabasePersistent)},
          {"replicated", has(db, kDatabaseReplicated)},
          {"sticky", has(db, kDatabaseSticky)},
          {"readonly", has(db, kDatabaseReadonly)},
          {"health", db.health.empty() ? "OK" : db.health}};
}

std::string record_flags_text(std::uint32_t flags) {
  std::string text = fmt::format("0x{:08x}", flags);
  for (const FlagName& flag : kRecordFlags) {
    if ((flags & flag.bit) != 0) text += fmt::format(" {}", flag.name);
  }
  return text;
}

std::string format_record(BytesView key, const RecordHeader& header, BytesView value) {
  return fmt::format("key({}) = \"{}\"\ndmaster: {}\nrsn: {}\nflags: {}\ndata({}) = \"{}\"\n\n", key.size(),
                     escape_hex(key), number(header.dmaster), header.rsn, record_flags_text(header.flags), value.size(),
                     escape_hex(value));
}

Json json_record(BytesView key, const RecordHeader& header, BytesView value) {
  // Hex says everything; the escaped text is for eyes. JSON strings cannot carry arbitrary bytes.
  return {{"key", escape_c(key)},
          {"key_hex", to_hex(key)},
          {"dmaster", number(header.dmaster)},
          {"rsn", header.rsn},
          {"flags", record_flags_text(header.flags)},
          {"value", escape_c(value)},
          {"value_hex", to_hex(value)}};
}

std::string format_addresses(const std::vector<AddressLine>& addresses, std::optional<Pnn> node, bool verbose) {
  std::string text =
      node ? fmt::format("Public IPs on node {}\n", number(*node)) : std::string("Public IPs on ALL nodes\n");
  for (const AddressLine& line : addresses) {
    if (verbose) {
      text += fmt::format("{} node[{}] active[{}] available[{}] configured[{}]\n", ctdb::to_string(line.ip.address),
                          pnn_or_minus_one(line.ip.pnn), joined(line.active), joined(line.available),
                          joined(line.configured));
    } else {
      text += fmt::format("{} {}\n", ctdb::to_string(line.ip.address), pnn_or_minus_one(line.ip.pnn));
    }
  }
  return text;
}

std::string format_addresses_machine(const std::vector<AddressLine>& addresses, char s, bool verbose) {
  std::string text = fmt::format("{0}Public IP{0}Node{0}", s);
  if (verbose) text += fmt::format("ActiveInterfaces{0}AvailableInterfaces{0}ConfiguredInterfaces{0}", s);
  text += '\n';
  for (const AddressLine& line : addresses) {
    text += fmt::format("{0}{1}{0}{2}{0}", s, ctdb::to_string(line.ip.address), pnn_or_minus_one(line.ip.pnn));
    if (verbose) {
      text += fmt::format("{1}{0}{2}{0}{3}{0}", s, joined(line.active), joined(line.available), joined(line.configured));
    }
    text += '\n';
  }
  return text;
}

Json json_addresses(const std::vector<AddressLine>& addresses, bool verbose) {
  Json list = Json::array();
  for (const AddressLine& line : addresses) {
    Json entry{{"address", ctdb::to_string(line.ip.address)},
               {"node", line.ip.pnn == kNoPnn ? Json(nullptr) : Json(number(line.ip.pnn))}};
    if (verbose) {
      entry["active"] = line.active;
      entry["available"] = line.available;
      entry["configured"] = line.configured;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

std::string format_address_info(Pnn node, const PublicIpInfo& info) {
  const std::string address = ctdb::to_string(info.ip.address);
  std::string text = fmt::format("Public IP[{}] info on node {}\nIP:{}\nCurrentNode:{}\nNumInterfaces:{}\n", address,
                                 number(node), address, number(info.ip.pnn), info.ifaces.size());
  for (std::size_t i = 0; i < info.ifaces.size(); ++i) {
    const Iface& iface = info.ifaces[i];
    text += fmt::format("Interface[{}]: Name:{} Link:{} References:{}{}\n", i + 1, iface.name,
                        iface.link_up ? "up" : "down", iface.references, i == info.active ? " (active)" : "");
  }
  return text;
}

Json json_address_info(const PublicIpInfo& info) {
  Json ifaces = Json::array();
  for (std::size_t i = 0; i < info.ifaces.size(); ++i) {
    ifaces.push_back({{"name", info.ifaces[i].name},
                      {"link_up", info.ifaces[i].link_up},
                      {"references", info.ifaces[i].references},
                      {"active", i == info.active}});
  }
  return {{"address", ctdb::to_string(info.ip.address)},
          {"node", info.ip.pnn == kNoPnn ? Json(nullptr) : Json(number(info.ip.pnn))},
          {"interfaces", std::move(ifaces)}};
}

std::string format_ifaces(Pnn node, const IfaceList& list) {
  if (list.ifaces.empty()) return fmt::format("No interfaces configured on node {}\n", number(node));
  std::string text = fmt::format("Interfaces on node {}\n", number(node));
  for (const Iface& iface : list.ifaces) {
    text += fmt::format("name:{} link:{} references:{}\n", iface.name, iface.link_up ? "up" : "down", iface.references);
  }
  return text;
}

std::string format_ifaces_machine(const IfaceList& list, char s) {
  std::string text = fmt::format("{0}Name{0}LinkStatus{0}References{0}\n", s);
  for (const Iface& iface : list.ifaces) {
    text += fmt::format("{0}{1}{0}{2}{0}{3}{0}\n", s, iface.name, one_zero(iface.link_up), iface.references);
  }
  return text;
}

Json json_ifaces(const IfaceList& list) {
  Json ifaces = Json::array();
  for (const Iface& iface : list.ifaces) {
    ifaces.push_back({{"name", iface.name}, {"link_up", iface.link_up}, {"references", iface.references}});
  }
  return ifaces;
}

std::optional<TransactionLine> parse_transaction_line(std::string_view line) {
  std::vector<std::string> words;
  std::size_t at = 0;
  while (words.size() < 2) {
    at = line.find_first_not_of(" \t", at);
    if (at == std::string_view::npos || line[at] != '"') return std::nullopt;
    std::string word;
    for (++at; at < line.size() && line[at] != '"'; ++at) {
      if (line[at] == '\\' && at + 1 < line.size() && (line[at + 1] == '"' || line[at + 1] == '\\')) ++at;
      word.push_back(line[at]);
    }
    if (at == line.size()) return std::nullopt;  // the closing quote is missing
    ++at;
    words.push_back(std::move(word));
  }
  if (line.find_first_not_of(" \t\r", at) != std::string_view::npos || words[0].empty()) return std::nullopt;
  return TransactionLine{std::move(words[0]), std::move(words[1])};
}

}  // namespace tdbmesh::ctl
