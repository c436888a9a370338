#pragma once
// Databases, records and public addresses as CTDB 4.17 prints them, and as JSON. Pure.

#include <optional>
#include <string>
#include <vector>

#include "db/record.h"
#include "tools/ctl/console.h"
#include "transport/ctdb_payloads.h"

namespace tdbmesh::ctl {

struct DatabaseLine {
  DatabaseId id{};
  std::string name;
  std::string path;
  std::uint8_t flags = 0;  // ctdb::kDatabase...
  std::string health;      // empty: healthy
};

[[nodiscard]] std::string format_database_map(const std::vector<DatabaseLine>& databases);
[[nodiscard]] std::string format_database_map_machine(const std::vector<DatabaseLine>& databases, char separator);
[[nodiscard]] std::string format_database_status(const DatabaseLine& database);
[[nodiscard]] Json json_database(const DatabaseLine& database);

// One record of catdb and cattdb, with the empty line behind it.
[[nodiscard]] std::string format_record(BytesView key, const RecordHeader& header, BytesView value);
[[nodiscard]] Json json_record(BytesView key, const RecordHeader& header, BytesView value);
// "0x00010000 MIGRATED_WITH_DATA"
[[nodiscard]] std::string record_flags_text(std::uint32_t flags);

struct AddressLine {
  ctdb::PublicIp ip;
  std::vector<std::string> active;      // with -v only
  std::vector<std::string> available;
  std::vector<std::string> configured;
};
// `node`: whose view this is; nullopt: of all nodes.
[[nodiscard]] std::string format_addresses(const std::vector<AddressLine>& addresses, std::optional<Pnn> node,
                                           bool verbose);
[[nodiscard]] std::string format_addresses_machine(const std::vector<AddressLine>& addresses, char separator,
                                                   bool verbose);
[[nodiscard]] Json json_addresses(const std::vector<AddressLine>& addresses, bool verbose);
[[nodiscard]] std::string format_address_info(Pnn node, const ctdb::PublicIpInfo& info);
[[nodiscard]] Json json_address_info(const ctdb::PublicIpInfo& info);

[[nodiscard]] std::string format_ifaces(Pnn node, const ctdb::IfaceList& list);
[[nodiscard]] std::string format_ifaces_machine(const ctdb::IfaceList& list, char separator);
[[nodiscard]] Json json_ifaces(const ctdb::IfaceList& list);

// One line of ptrans input: "key" "value", both in quotes, \" and \\ allowed in them, 0x.. for hex.
// nullopt: not of that form.
struct TransactionLine {
  std::string key;
  std::string value;
  friend bool operator==(const TransactionLine&, const TransactionLine&) = default;
};
[[nodiscard]] std::optional<TransactionLine> parse_transaction_line(std::string_view line);

}  // namespace tdbmesh::ctl
