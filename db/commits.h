#pragma once
// Transactions on persistent and replicated databases of one node (control plane, sections 7 and 8). Per
// database and view one member, the sequencer, puts commits in order; every member writes them durably; the
// client is answered when all have. Pure: durable writes go out as SubmitChange and come back as
// on_durable(); reads no clock.
//
//   client --> held (no view, view change) --> sent to the sequencer --> CommitAnswer
//   sequencer: queue --> one in flight: COMMIT_WRITE to all, waits for DURABLE of all --> COMMIT_DONE
//   member:    COMMIT_WRITE --> SubmitChange --> on_durable() --> DURABLE
//
// Rules: a failure is never answered while a write may be under way; a commit that a view change cut off is
// answered (status 2) when all members have the next view in use, durably; the local copy is settled by then. The
// client then compares sequence numbers, so a number that another commit has taken meanwhile must not be what it finds:
// then the number moves on by one more before the answer, which is -1. A copy's version is (generation, seqnum) of its
// last commit, stored with the data.
//
// View change, in this order: prepare(view); wait until quiet(); report versions(); settle() what differs,
// wait for Settled; install(view). A node outside the view answers no commit until it is in again.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "db/commit_types.h"
#include "db/copy_transfer.h"
#include "db/view.h"

namespace tdbmesh {

inline constexpr std::size_t kMaxParkedCommitBytes = 256u * 1024 * 1024;

class Commits {
 public:
  explicit Commits(Pnn self, CommitSettings settings = {});

  // Any kind; volatile ones only for TRANS3_COMMIT on them. `database` must outlive detach(). A detached
  // database's commits are answered -1.
  [[nodiscard]] CommitActions attach(Database& database, Instant now);
  [[nodiscard]] CommitActions detach(DatabaseId id);

  // TRANS3_COMMIT. `client`: whose; a second one while the first is open is refused. Refused (-1) besides
  // only for an unknown database or a wrong sequence number. An empty buffer: 0. On a volatile database only
  // records that exist here and are owned here are replaced, here only.
  [[nodiscard]] CommitActions client_commit(CommitId id, std::uint64_t client, RecordBuffer buffer, Instant now);
  // The daemon's own: wipe or restore; all records are replaced by `entries`.
  [[nodiscard]] CommitActions replace_all(CommitId id, DatabaseId database, std::vector<RecordEntry> entries,
                                          Instant now);
  // Nobody waits any more; the commit ends by itself, without an answer.
  void client_gone(std::uint64_t client);

  // A body of MessageKind::Commit. Malformed bytes give a CommitTrouble naming the peer.
  [[nodiscard]] CommitActions on_message(Pnn from, Incarnation incarnation, BytesView body, Instant now);
  // What the worker reports for a SubmitChange, in its order.
  [[nodiscard]] CommitActions on_durable(std::uint64_t ticket, const Result<>& result, Instant now);
  [[nodiscard]] CommitActions tick(Instant now);
  [[nodiscard]] Instant next_wake() const;

  // Leaving in order: commits of clients that come now are held, those under way end.
  [[nodiscard]] CommitActions drain(bool on, Instant now);
  [[nodiscard]] bool drained() const;

  // --- view change. What settle() was fetching for an older one is forgotten, without a report. With `continuity_broken` replicated copies stay as they are too: they are settled like
  // persistent ones.
  void prepare(const View& view, bool continuity_broken, Instant now);
  // No durable write is under way; versions() may be reported in PREPARED.
  [[nodiscard]] bool quiet() const { return tickets_.empty(); }
  [[nodiscard]] std::map<DatabaseId, CopyVersion> versions() const;
  // Make the copy equal to the one `from` has, which is `version` as stored there. A default `version` takes
  // whatever `from` has (catching up before joining, while commits there go on). Reports Settled or SettleFailed.
  [[nodiscard]] CommitActions settle(DatabaseId id, Pnn from, const CopyVersion& version, Instant now);
  [[nodiscard]] CommitActions install(const View& view, Instant now);
  // It is durable that this node has the installed view in use. Commits that the view change cut off are answered when
  // that is so on all members.
  [[nodiscard]] CommitActions view_durable(Instant now);
  [[nodiscard]] bool knows_view_durable() const { return view_durable_; }
  // Which copies has it? CopiesKnown answers, or nobody: ask again.
  [[nodiscard]] CommitActions ask_copies(Pnn whom, Instant now);
  // Bytes of records fetched from other nodes, ever; and how many copies needed all records.
  struct Fetched {
    std::uint64_t bytes = 0;
    std::uint64_t differences = 0;
    std::uint64_t whole = 0;
  };
  [[nodiscard]] const Fetched& fetched() const { return fetched_; }

  // What answers GET_DB_SEQNUM.
  [[nodiscard]] std::uint64_t sequence_number(DatabaseId id) const;
  // The member that puts this database's commits in order in the installed view; kNoPnn without one.
  [[nodiscard]] Pnn sequencer(DatabaseId id) const;
  [[nodiscard]] std::size_t open_commits() const { return commits_.size(); }

 private:
  // A commit that began here.
  struct Local {
    std::optional<std::uint64_t> client;  // none: the daemon's own, or the client is gone
    bool wants_answer = true;
    DatabaseId database{};
    commit::Request request;
    bool sent = false;
  };
  struct Queued {
    Pnn origin{};
    commit::Request request;
    bool refused = false;  // only the sequence number moves, see start_next()
  };
  // At the sequencer: written everywhere, not yet durable everywhere.
  struct InFlight {
    Queued commit;
    std::uint64_t seqnum = 0;
    std::set<Pnn> waiting;
    Instant since{};
    bool reported = false;
  };
  // The sequencer's memory of the last commit of this view, to recognise it when a client sends it again.
  struct Last {
    std::uint64_t seqnum = 0;
    std::vector<RecordEntry> entries;
  };
  struct Attached {
    Database* database = nullptr;
    CopyVersion version;           // durable
    std::uint64_t seqnum = 0;      // including the write under way
    CommitHistory history;
    std::deque<Queued> queue;
    std::optional<InFlight> in_flight;
    std::optional<Last> last;
    std::optional<CopyFetch> fetch;
  };
  struct Ticket {
    DatabaseId database{};
    std::uint64_t fetch = 0;            // for this copy being fetched; 0: a commit
    bool visible = true;                // false: only set aside
    CopyVersion before;
    CopyVersion after;
    bool replaced = false;
    std::vector<RecordEntry> entries;   // for the history
    std::optional<Pnn> tell;            // DURABLE goes there; none: a copy being fetched
    Generation generation;
  };
  struct Parked {
    Pnn from{};
    Incarnation incarnation = 0;
    CommitMessage message;
    std::size_t bytes = 0;
  };

  [[nodiscard]] bool frozen() const { return accepted_.generation > view_.generation; }
  [[nodiscard]] bool may_commit() const { return view_.contains(self_) && !frozen() && !draining_; }
  CommitActions finish(Instant now);
  void refuse(CommitId id, std::string text);
  void begin(CommitId id, Local local);
  void send_local(CommitId id, Local& local);
  void send_held();
  void commit_volatile(CommitId id, Database& database, const RecordBuffer& buffer);
  void answer(CommitId id, std::int32_t status, std::string text);
  [[nodiscard]] bool number_taken_by_another(const Local& local) const;
  void send(Pnn to, DatabaseId id, commit::Body body);
  void dispatch(Pnn from, DatabaseId id, const commit::Body& body, Instant now);
  void deliver(Parked parked, Instant now);
  void deliver_parked(Instant now);
  void park(Parked parked);
  void on_pull(Pnn from, DatabaseId id, const commit::Pull& pull);
  void on_ask_copies(Pnn from);
  void on_request(Pnn from, DatabaseId id, Attached& attached, const commit::Request& request, Instant now);
  void submit(DatabaseId id, Attached& attached, Ticket ticket, DurableChange change);
  void fetch_durable(Attached& attached, const Ticket& ticket, Instant now);
  void on_write(Pnn from, DatabaseId id, Attached& attached, const commit::Write& write);
  void on_durable_elsewhere(Pnn from, DatabaseId id, Attached& attached, const commit::Durable& durable, Instant now);
  void on_done(const commit::Done& done);
  void pull(DatabaseId id, Attached& attached, Instant now);
  void on_ask_installed(Pnn from);
  void on_installed(Pnn from);
  void answer_uncertain();
  void on_pull_data(Pnn from, DatabaseId id, Attached& attached, commit::PullData data, Instant now);
  void start_next(DatabaseId id, Attached& attached, Instant now);
  void fail_fetch(DatabaseId id, Attached& attached, std::string reason);

  Pnn self_;
  CommitSettings settings_;
  bool draining_ = false;
  View view_;
  View accepted_;
  std::map<DatabaseId, Attached> databases_;
  std::map<CommitId, Local> commits_;
  std::map<std::uint64_t, Ticket> tickets_;
  std::uint64_t next_ticket_ = 1;
  std::uint64_t next_fetch_ = 1;
  Fetched fetched_;
  bool view_durable_ = false;
  std::vector<CommitId> uncertain_;   // cut off by the view change, not answered yet
  std::set<Pnn> not_installed_;       // members of which this node waits to hear that they use the view
  std::vector<Pnn> ask_installed_;    // who waits to hear it of this node
  std::deque<std::pair<DatabaseId, commit::Body>> in_line_;
  std::deque<Parked> parked_;  // for a generation not installed yet, or a database not attached yet
  std::size_t parked_bytes_ = 0;
  CommitActions actions_;
};

}  // namespace tdbmesh
