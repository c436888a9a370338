#include "db/record_messages.h"

#include "db/message_envelope.h"
#include "db/record.h"

namespace tdbmesh {

namespace record {

template <class T>
Choice<T, Kind::Write, Kind::Read> either_kind(T& kind) {
  return {kind};
}
template <class T>
List<kMaxRecordBatch, T> batch(T& entries) {
  return {entries};
}

void fields(auto& f, IsA<Request> auto& m) { f(Key{m.key}, m.q, either_kind(m.kind)); }
void fields(auto& f, IsA<Forward> auto& m) { f(Key{m.key}, m.to, m.q, either_kind(m.kind), m.after, m.adopt); }
void fields(auto& f, IsA<Grant> auto& m) { f(Key{m.key}, m.q, m.rsn, m.migrated_with_data, Value{m.value}); }
void fields(auto& f, IsA<Copy> auto& m) { f(Key{m.key}, m.q, m.rsn, m.delegated, Value{m.value}); }
void fields(auto& f, IsA<Miss> auto& m) { f(Key{m.key}, m.to, m.q, either_kind(m.kind)); }
void fields(auto& f, IsA<Query> auto& m) { f(Key{m.key}, m.round); }
void fields(auto& f, IsA<Answer> auto& m) { f(Key{m.key}, m.round, m.own, m.rsn); }
void fields(auto& f, IsA<ClaimEntry> auto& m) { f(Key{m.key}, m.own, m.rsn); }
void fields(auto& f, IsA<Claim> auto& m) { f(m.last, m.every_slot, batch(m.entries)); }
void fields(auto& f, IsA<Revoke> auto& m) { f(Key{m.key}); }
void fields(auto& f, IsA<Revoked> auto& m) { f(Key{m.key}); }
void fields(auto& f, IsA<VacuumEntry> auto& m) { f(Key{m.key}, m.rsn); }
void fields(auto& f, IsA<Tomb> auto& m) { f(batch(m.entries)); }
void fields(auto& f, IsA<Purge> auto& m) { f(batch(m.entries)); }
void fields(auto& f, IsA<VacuumAckEntry> auto& m) { f(Key{m.key}, m.rsn, m.ok); }
void fields(auto& f, IsA<VacuumAck> auto& m) { f(one_of<1, 2>(m.phase), batch(m.entries)); }
void fields(auto& f, IsA<Gone> auto& m) { f(Key{m.key}, m.rsn); }
void fields(auto& f, IsA<LeavingEntry> auto& m) { f(Key{m.key}, m.rsn, m.taker); }
void fields(auto& f, IsA<Leaving> auto& m) { f(m.round, batch(m.entries)); }
void fields(auto& f, IsA<Keeping> auto& m) { f(m.round, m.leaving, batch(m.kept)); }

}  // namespace record

Bytes encode_record_message(const RecordMessage& message) { return encode_enveloped(message); }

Result<RecordMessage> decode_record_message(BytesView bytes) {
  return decode_enveloped<RecordMessage>(bytes, "a record message");
}

std::string_view name_of(const record::Body& body) {
  static constexpr std::string_view kNames[] = {"REQ",   "FWD",    "GRANT",   "COPY", "MISS",  "QUERY",  "ANSWER",
                                                "CLAIM", "REVOKE", "REVOKED", "TOMB", "PURGE", "VACACK", "GONE",
                                                "LEAVING", "KEEPING"};
  return kNames[body.index()];
}

}  // namespace tdbmesh
