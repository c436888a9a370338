#pragma once
// Counters as CTDB 4.17 prints them, and as JSON. Pure.

#include <string>

#include "tools/ctl/console.h"
#include "transport/ctdb_statistics.h"

namespace tdbmesh::ctl {

[[nodiscard]] std::string format_statistics(const ctdb::Statistics& s);
// The header line of -X, and one line per set of counters.
[[nodiscard]] std::string format_statistics_header(char separator);
[[nodiscard]] std::string format_statistics_machine(const ctdb::Statistics& s, char separator);
[[nodiscard]] Json json_statistics(const ctdb::Statistics& s);

[[nodiscard]] std::string format_database_statistics(const std::string& name, const ctdb::DatabaseStatistics& s);
[[nodiscard]] Json json_database_statistics(const std::string& name, const ctdb::DatabaseStatistics& s);

}  // namespace tdbmesh::ctl
