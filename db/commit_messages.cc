#include "db/commit_messages.h"

#include "db/message_envelope.h"

namespace tdbmesh {

namespace commit {

template <class T>
List<kMaxCommitEntries, T> writes(T& entries) {
  return {entries};
}

void fields(auto& f, IsA<Request> auto& m) { f(m.id, m.replace_all, m.seqnum, writes(m.entries)); }
void fields(auto& f, IsA<Write> auto& m) { f(m.seqnum, m.replace_all, writes(m.entries)); }
void fields(auto& f, IsA<Durable> auto& m) { f(m.seqnum); }
void fields(auto& f, IsA<Done> auto& m) { f(m.id, m.status, Text{m.text}); }
void fields(auto& f, IsA<Pull> auto& m) { f(m.id, m.have, m.position); }
void fields(auto& f, IsA<PullData> auto& m) {
  f(m.id, m.version, m.visible, m.difference, m.done, m.position, m.next, writes(m.entries));
}
void fields(auto& f, IsA<PullRefused> auto& m) { f(m.id, Text{m.reason}); }
void fields(auto& f, IsA<AskCopies> auto&) { f(); }
void fields(auto& f, IsA<Copies::Copy> auto& m) {
  f(m.database, Name{m.name}, one_of<DatabaseKind::Persistent, DatabaseKind::Replicated>(m.kind), m.version);
}
void fields(auto& f, IsA<Copies> auto& m) { f(m.installed, list<kMaxCopies>(m.copies)); }
void fields(auto& f, IsA<AskInstalled> auto&) { f(); }
void fields(auto& f, IsA<Installed> auto&) { f(); }

}  // namespace commit

Bytes encode_commit_message(const CommitMessage& message) { return encode_enveloped(message); }

Result<CommitMessage> decode_commit_message(BytesView bytes) {
  return decode_enveloped<CommitMessage>(bytes, "a commit message");
}

std::string_view name_of(const commit::Body& body) {
  static constexpr std::string_view kNames[] = {"COMMIT_REQUEST", "COMMIT_WRITE", "DURABLE",     "COMMIT_DONE",
                                                "PULL",           "PULL_DATA",    "PULL_REFUSED", "ASK_COPIES",
                                                "COPIES",         "ASK_INSTALLED", "INSTALLED"};
  return kNames[body.index()];
}

}  // namespace tdbmesh
