#pragma once
// A change of a persistent or replicated database: under the same cluster-wide lock that Samba's transactions
// take, committed on all nodes or not at all.

#include <unordered_map>

#include "tools/client/g_lock.h"

namespace tdbmesh {

class Transaction {
 public:
  // Takes the lock and attaches the database. Refused for volatile databases.
  [[nodiscard]] static Result<Transaction> begin(ctdb::Client& client, const std::string& name,
                                                 ctdb::Client::DatabaseType type, Duration timeout);

  // What the transaction wrote, else what is committed. A deleted record is empty or absent.
  [[nodiscard]] Result<std::optional<Bytes>> fetch(BytesView key);
  // The committed copy, for reading all of it. Not what this transaction wrote.
  [[nodiscard]] LocalCopy& committed() { return *database_.copy; }
  // Storing what is there already changes nothing and is not sent. An empty value deletes.
  [[nodiscard]] Result<> store(BytesView key, BytesView value);
  [[nodiscard]] Result<> erase(BytesView key);  // absent or deleted already: nothing to do
  // Writes everything on every active node. Without any change it does nothing. The lock is released.
  [[nodiscard]] Result<> commit();

 private:
  Transaction(ctdb::Client& client, OpenDatabase database, GLock lock, Duration timeout)
      : client_(&client), database_(std::move(database)), lock_(std::move(lock)), timeout_(timeout) {}
  [[nodiscard]] Result<std::optional<StoredRecord>> current(BytesView key);
  [[nodiscard]] Result<std::uint64_t> committed_seqnum();
  [[nodiscard]] Result<> put(BytesView key, BytesView value);

  ctdb::Client* client_;
  OpenDatabase database_;
  GLock lock_;
  Duration timeout_;
  RecordBuffer buffer_;
  std::unordered_map<Bytes, std::size_t> newest_;  // key -> its last entry in the buffer
};

}  // namespace tdbmesh
