#pragma once
// A database as Samba opens it: attached over the daemon's socket, then opened through libtdb by the path that the
// daemon names. Which library answers the tdb_ calls is decided outside: with the shim preloaded it is tdbmesh's,
// else the real libtdb, so that one program loads both daemons.
//
// Whatever goes wrong ends the program with one line: a bench that has gone on without the thing it measures is worse than
// none.

#include <cstdint>
#include <string>

#include "db/record.h"
#include "transport/ctdb_client.h"

struct tdb_context;

namespace tdbmesh::bench {

[[noreturn]] void die(const std::string& why);

template <class T>
T or_die(Result<T> result, const char* what) {
  if (!result) die(std::string(what) + ": " + result.error().context);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

class SharedDatabase {
 public:
  using Type = ctdb::Client::DatabaseType;
  SharedDatabase(ctdb::Client& client, const std::string& name, Type type = Type::Volatile);
  ~SharedDatabase();
  SharedDatabase(const SharedDatabase&) = delete;
  SharedDatabase& operator=(const SharedDatabase&) = delete;

  [[nodiscard]] DatabaseId id() const { return id_; }

  // Samba's fetch_locked: the chain is locked and this node owns the record. True if the daemon had to be asked.
  bool fetch_locked(BytesView key);
  // What fetch_locked() found.
  [[nodiscard]] const Bytes& value() const { return value_; }
  // Into the record that is locked, with its header.
  void store(BytesView value);
  void unlock();

  // The lock-free read of a record that this node owns; dies if it does not.
  void parse_local(BytesView key);
  // Of a persistent database: no lock, no owner. Empty if absent; value() otherwise, header() too.
  bool fetch(BytesView key);
  [[nodiscard]] const RecordHeader& header() const { return header_; }

 private:
  bool parse(BytesView key);

  ctdb::Client& client_;
  Pnn own_;
  DatabaseId id_{};
  std::string name_;
  tdb_context* tdb_ = nullptr;
  Bytes key_;
  RecordHeader header_;
  Bytes value_;
};

}  // namespace tdbmesh::bench
