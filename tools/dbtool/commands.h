#pragma once
// dbtool's verbs.

#include "tools/ctl/console.h"
#include "tools/dbtool/arguments.h"
#include "tools/dbtool/source.h"

namespace tdbmesh::dbtool {

struct Command {
  const Arguments& arguments;
  Source& source;
  ctl::Console& console;
  [[nodiscard]] bool decode() const { return arguments.decode.value_or(false); }
};

// Runs the verb; the exit status.
[[nodiscard]] Outcome<int> run(Command& command);

// One record in dbtool's form: key, header, value, and what it means if that is known and wanted.
[[nodiscard]] std::string record_text(const std::string& database, BytesView key, const RecordHeader& header,
                                      BytesView value, Encoding encoding, bool decode);
[[nodiscard]] ctl::Json record_json(const std::string& database, BytesView key, const RecordHeader& header,
                                    BytesView value);

// commands_write.cc
[[nodiscard]] Outcome<int> run_put(Command& command, const DatabaseInfo& database, const Bytes& key, const Bytes& value);
[[nodiscard]] Outcome<int> run_del(Command& command, const DatabaseInfo& database, const Bytes& key);
// commands_transfer.cc
[[nodiscard]] Outcome<int> run_import(Command& command);
[[nodiscard]] Outcome<int> run_export(Command& command, const DatabaseInfo& database);
// commands_cluster.cc
[[nodiscard]] Outcome<int> run_where(Command& command, const DatabaseInfo& database, const Bytes& key);
[[nodiscard]] Outcome<int> run_check(Command& command, const std::vector<DatabaseInfo>& databases);
[[nodiscard]] Outcome<int> run_watch(Command& command, const DatabaseInfo& database);

}  // namespace tdbmesh::dbtool
