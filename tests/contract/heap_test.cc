// The heap of volatile databases: against a model, and against processes that are killed or stopped at any instant.
//
// TDBMESH_HEAP_KILLS sets the number of kills of the kill test, TDBMESH_HEAP_INSTRUCTIONS at how many instructions of each
// operation the stepping test kills (defaults: what CI has time for).
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <set>
#include <string>

#include "db/base/random.h"
#include "db/heap_file.h"
#include "db/lmdb_database.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace tdbmesh {
namespace {

namespace fs = std::filesystem;
using Role = LmdbDatabase::Role;

std::unique_ptr<LmdbDatabase> must_open(const std::string& path, Role role = Role::Client) {
  auto database = LmdbDatabase::open(path, role);
  if (!database) throw std::runtime_error(database.error().context);
  return std::move(*database);
}

// Memory that a test shares with its children.
template <class T>
class SharedMemory {
 public:
  SharedMemory() : at_(::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) { new (at_) T{}; }
  ~SharedMemory() { ::munmap(at_, sizeof(T)); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  T* operator->() const { return static_cast<T*>(at_); }

 private:
  void* at_;
};

class Heap : public testing::Test {
 protected:
  void create(std::uint64_t hash_mask = ~std::uint64_t{0}, std::uint32_t chain_count = 64) {
    AnchorSettings s;
    s.name = "heap.tdb";
    s.data_dir = path + ".lmdb";
    s.gate_path = "/nonexistent/gate";
    s.identity = 11;
    s.hash_seed = 22;
    s.hash_mask = hash_mask;
    s.chain_count = chain_count;
    const auto made = LmdbDatabase::create(path, s);
    ASSERT_TRUE(made) << made.error().context;
  }
  void expect_all_free(LmdbDatabase& db) {
    for (std::uint32_t chain = 0; chain < db.anchor().chain_count(); ++chain) {
      ASSERT_TRUE(db.locks().try_lock(chain)) << chain;
      ASSERT_TRUE(db.locks().unlock(chain));
    }
  }
  void expect_sound(LmdbDatabase& db) {
    const auto sound = db.check();
    EXPECT_TRUE(sound) << sound.error().context;
  }
  // With every chain written since its last writer died.
  static void expect_redo_slots_free(const HeapFile& file) {
    for (unsigned n = 0; n < kRedoSlots; ++n) ASSERT_EQ(file.redo(n).owner.load() & kRedoOwnerMask, 0u) << n;
  }
  TempDir dir{in_memory()};
  std::string path = dir / "heap.tdb.0";
};

std::map<Bytes, Bytes> all(LmdbDatabase& database, std::size_t batch_size = 50) {
  std::map<Bytes, Bytes> found;
  std::uint64_t at = 0;
  for (bool done = false; !done;) {
    auto batch = database.scan(at, batch_size);
    if (!batch) throw std::runtime_error(batch.error().context);
    EXPECT_LE(batch->items.size(), batch_size);
    for (LmdbItem& item : batch->items) EXPECT_TRUE(found.emplace(std::move(item.key), std::move(item.value)).second) << "twice";
    at = batch->next;
    done = batch->done;
  }
  return found;
}

TEST(HeapClasses, EachSizeFitsItsClassAndWastesLittle) {
  unsigned last = 0;
  for (std::uint64_t size = sizeof(Block); size < (std::uint64_t{72} << 20); size += size < 5000 ? 1 : size / 97) {
    const unsigned block_class = record_class(size);
    ASSERT_LT(block_class, kRecordClasses) << size;
    ASSERT_GE(class_size(block_class), size);
    ASSERT_LE(class_size(block_class), std::max<std::uint64_t>(64, size + std::max<std::uint64_t>(31, size / 8 + 1))) << size;
    ASSERT_EQ(class_size(block_class) % kBlockUnit, 0u);
    ASSERT_GE(block_class, last);
    last = block_class;
  }
  EXPECT_LT(record_class(sizeof(Block) + kMaxKeySize + kMaxValueSize + kRecordHeaderSize), kRecordClasses);
}

// Every operation, sizes that grow and shrink, many keys on few hashes; compared with a map all the time.
TEST_F(Heap, BehavesLikeAMap) {
  for (const std::uint64_t mask : {~std::uint64_t{0}, std::uint64_t{0xff00}}) {
    path = dir / ("heap" + std::to_string(mask) + ".tdb.0");
    create(mask, 16);
    const auto db = must_open(path);
    std::map<Bytes, Bytes> model;
    std::map<Bytes, Bytes> before;  // of the transaction
    bool transaction = false;
    Random random(mask == 0xff00 ? 3 : 4);
    for (int step = 0; step < 30'000; ++step) {
      Bytes key = "k" + std::to_string(random.below(random.chance(10) ? 2000 : 60));
      if (random.chance(50)) key += Bytes(random.below(kMaxKeySize - 10), 'K');
      const auto random_value = [&] {
        return Bytes(random.chance(100) ? random.below(300'000) : random.below(random.chance(5) ? 5000 : 300), static_cast<char>('a' + step % 26));
      };
      const auto what = random.below(1000);
      if (what < 500) {
        const Bytes value = random_value();
        const auto mode = random.chance(4) ? StoreMode::Insert : random.chance(4) ? StoreMode::Modify : StoreMode::Replace;
        const bool there = model.contains(key);
        const bool fits = mode == StoreMode::Replace || (mode == StoreMode::Insert) != there;
        const auto stored = db->store(key, value, mode);
        ASSERT_EQ(stored.has_value(), fits) << step;
        if (fits) model[key] = value;
      } else if (what < 700) {
        ASSERT_EQ(*db->erase(key), model.erase(key) == 1) << step;
      } else if (what < 950) {
        const auto found = *db->fetch(key);
        ASSERT_EQ(found.has_value(), model.contains(key)) << step;
        if (found) {
          ASSERT_EQ(*found, model[key]) << step;
        }
      } else if (what < 960) {
        ASSERT_EQ(all(*db, 1 + random.below(100)), model) << step;
        ASSERT_EQ(*db->record_count(), model.size());
      } else if (what < 965) {
        std::set<Bytes> walked;
        for (auto at = *db->first_key(); at; at = *db->next_key(*at)) ASSERT_TRUE(walked.insert(*at).second) << step;
        ASSERT_EQ(walked.size(), model.size());
      } else if (what < 967) {
        ASSERT_TRUE(db->wipe());
        model.clear();
      } else if (what < 968 && !transaction) {
        ASSERT_TRUE(db->drop_all());
        model.clear();
      } else if (what < 985 && !transaction) {
        ASSERT_TRUE(db->begin());
        transaction = true;
        before = model;
      } else if (transaction && what < 997) {
        transaction = false;
        if (random.chance(2)) {
          ASSERT_TRUE(db->commit());
        } else {
          db->cancel();
          model = before;
        }
        ASSERT_EQ(all(*db), model) << step;
      } else if (!transaction) {
        expect_sound(*db);
        ASSERT_FALSE(HasFailure()) << step;
      }
    }
    if (transaction) {
      ASSERT_TRUE(db->commit());
    }
    EXPECT_EQ(all(*db), model);
    expect_sound(*db);
  }
}

TEST_F(Heap, SpaceOfRemovedRecordsIsUsedAgain) {
  create();
  const auto db = must_open(path);
  std::uint64_t size = 0;
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < 2000; ++i) ASSERT_TRUE(db->store("k" + std::to_string(i), Bytes(200, static_cast<char>('a' + round % 26))));
    if (round == 5) size = db->map_size();
    if (round % 3 == 0) {
      for (int i = 0; i < 2000; ++i) ASSERT_TRUE(*db->erase("k" + std::to_string(i)));
    } else if (round % 3 == 1) {
      ASSERT_TRUE(db->drop_all());
    }
  }
  EXPECT_EQ(db->map_size(), size);
  expect_sound(*db);
}

// A record is its number again and again, with a check sum of its length: what is torn shows.
Bytes value_of(std::uint64_t number, std::size_t size) {
  Bytes value = std::to_string(size) + ":";
  const Bytes word = std::to_string(number) + ";";
  while (value.size() < size) value += word;
  return value.substr(0, size);
}
std::optional<std::uint64_t> number_in(BytesView value) {
  const auto colon = value.find(':');
  const auto end = value.find(';');
  if (colon == BytesView::npos || end == BytesView::npos || end < colon) return std::nullopt;
  const std::uint64_t number = std::stoull(Bytes(value.substr(colon + 1, end - colon - 1)));
  if (value_of(number, value.size()) != value) return std::nullopt;
  return number;
}

constexpr int kKillKeys = 40;
struct KillTotals {
  std::atomic<std::uint64_t> completed[kKillKeys];  // the number that was stored when the store had returned
  std::atomic<std::uint64_t> reads;
  std::atomic<std::uint64_t> writes;
};

// Writers that grow, shrink, remove, insert; each of them is killed at a random instant. Readers look on all the time.
// Afterwards each record is whole and not older than what its last completed store left.
TEST_F(Heap, WritersKilledAtAnyInstantTearAndLoseNothing) {
  const char* wanted = std::getenv("TDBMESH_HEAP_KILLS");
  const int kills = wanted == nullptr ? 150 : std::atoi(wanted);
  create(~std::uint64_t{0}, 8);  // few chains: many records share one
  SharedMemory<KillTotals> totals;
  const auto key_of = [](int k) { return "counter " + std::to_string(k); };
  const auto write = [&](std::uint64_t seed) {
    const auto db = must_open(path);
    Random random(seed);
    for (;;) {
      const int k = static_cast<int>(random.below(kKillKeys));
      const Bytes key = key_of(k);
      if (!db->lock(key)) return 1;
      const auto old = db->fetch(key);
      if (!old) return 2;
      std::uint64_t n = 0;
      if (*old) {
        const auto number = number_in(**old);
        if (!number) return 3;
        n = *number;
      }
      if (n < totals->completed[k].load()) return 4;  // a completed store was lost
      const std::size_t size = 40 + random.below(random.chance(10) ? 30'000 : 400);
      if (!db->store(key, value_of(n + 1, size))) return 5;
      totals->completed[k].store(n + 1);
      totals->writes.fetch_add(1);
      // Others on the same chain come and go: the table grows, is marked and made anew.
      const Bytes companion = key + " companion " + std::to_string(random.below(40));
      if (db->chain_of(companion) == db->chain_of(key)) {
        if (random.chance(2)) {
          if (!db->store(companion, value_of(n, 40 + random.below(300)))) return 6;
        } else if (!db->erase(companion)) {
          return 7;
        }
      }
      if (!db->unlock(key)) return 8;
    }
  };
  const auto read = [&](std::uint64_t seed) {
    const auto db = must_open(path);
    Random random(seed);
    for (;;) {
      const int k = static_cast<int>(random.below(kKillKeys));
      const std::uint64_t completed = totals->completed[k].load();
      const auto found = db->fetch(key_of(k));
      if (!found) return 1;
      if (!*found && completed > 0) return 2;
      if (*found) {
        const auto number = number_in(**found);
        if (!number) return 3;  // torn
        if (*number < completed) return 4;
      }
      if (random.chance(50)) {
        const auto batch = db->scan(0, 1000);
        if (!batch) return 5;
        for (const LmdbItem& item : batch->items) {
          if (!number_in(item.value)) return 6;
        }
      }
      totals->reads.fetch_add(1);
    }
  };
  {
    ChildProcess reader([&] { return read(1); });
    ChildProcess survivor([&] { return write(2); });
    Random random(3);
    for (int kill = 0; kill < kills; ++kill) {
      const std::uint64_t before = totals->writes.load();
      ChildProcess victim([&] { return write(100 + static_cast<std::uint64_t>(kill)); });
      // The random moment is the test; but somebody must have written since the last kill.
      do {
        ::usleep(static_cast<useconds_t>(2000 + random.below(15'000)));
      } while (totals->writes.load() == before);
      ASSERT_EQ(victim.kill_and_wait(), 1000 + SIGKILL) << "ended by itself, kill " << kill;
    }
    ASSERT_EQ(survivor.kill_and_wait(), 1000 + SIGKILL) << "ended by itself";
    ASSERT_EQ(reader.kill_and_wait(), 1000 + SIGKILL) << "ended by itself";
  }
  const auto db = must_open(path);
  expect_sound(*db);
  for (int k = 0; k < kKillKeys; ++k) {
    const auto value = *db->fetch(key_of(k));
    ASSERT_TRUE(value) << k;
    const auto number = number_in(*value);
    ASSERT_TRUE(number) << k;
    EXPECT_GE(*number, totals->completed[k].load());
    EXPECT_LE(*number, totals->completed[k].load() + 1);  // killed after the store, before it said so
  }
  expect_all_free(*db);
  // The next writer of each chain tidies up; then the counts are right again, too.
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(db->store("after " + std::to_string(i), "x"));
  expect_sound(*db);
  expect_redo_slots_free(**HeapFile::open(db->anchor(), true));
  RecordProperty("kills", kills);
  std::printf("%d kills, %llu writes, %llu reads\n", kills, static_cast<unsigned long long>(totals->writes.load()),
              static_cast<unsigned long long>(totals->reads.load()));
}

// Transactions over many records: killed at any instant, all of one or nothing of it is there.
TEST_F(Heap, KilledCommitsAreWholeOrNothing) {
  create();
  constexpr int kRecords = 30;
  const auto commit_for_ever = [&](std::uint64_t seed) {
    const auto db = must_open(path);
    Random random(seed);
    for (;;) {
      if (!db->begin()) return 1;
      const auto old = db->fetch("0");
      if (!old) return 2;
      const std::uint64_t n = *old ? number_in(**old).value_or(0) + 1 : 1;
      const bool wipe = random.chance(5);
      if (wipe && !db->wipe()) return 3;
      for (int i = 0; i < kRecords; ++i) {
        if (!db->store(std::to_string(i), value_of(n, 30 + random.below(2000)))) return 4;
      }
      if (!db->erase("gone") || (n % 2 == 0 && !db->store("gone", value_of(n, 100)))) return 5;
      if (!db->commit()) return 6;
    }
  };
  Random random(5);
  for (int kill = 0; kill < 60; ++kill) {
    ChildProcess victim([&] { return commit_for_ever(static_cast<std::uint64_t>(kill)); });
    ::usleep(static_cast<useconds_t>(3000 + random.below(10'000)));
    ASSERT_EQ(victim.kill_and_wait(), 1000 + SIGKILL) << "ended by itself";
    const auto db = must_open(path);
    const auto records = all(*db);
    std::set<std::uint64_t> numbers;
    for (const auto& [key, value] : records) {
      const auto number = number_in(value);
      ASSERT_TRUE(number) << key;
      numbers.insert(*number);
    }
    ASSERT_LE(numbers.size(), 1u) << "parts of two commits, kill " << kill;
    if (!records.empty()) {
      ASSERT_EQ(records.size(), kRecords + (*numbers.begin() % 2 == 0 ? 1u : 0u));
    }
    expect_sound(*db);
    expect_all_free(*db);
  }
}

// A child that runs `body` one instruction at a time, after `first`.
class SteppedChild {
 public:
  template <class First, class F>
  SteppedChild(First&& first, F&& body)
      : child_([&] {
          first();
          ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
          ::raise(SIGSTOP);
          body();
          return 0;
        }) {
    wait();
  }
  // False: it has ended.
  bool step() {
    if (::ptrace(PTRACE_SINGLESTEP, child_.pid(), nullptr, nullptr) != 0) return false;
    return wait();
  }
  void kill() { child_.kill_and_wait(); }

 private:
  bool wait() {
    int status = 0;
    return ::waitpid(child_.pid(), &status, 0) == child_.pid() && WIFSTOPPED(status);
  }
  ChildProcess child_;
};

struct Kind {
  const char* name;
  std::size_t after;  // size of the new value; 0: the record is removed
  bool there;         // is the record there before?
  int companions;     // so many others on its chain: the table is as good as full
};
class HeapWrites : public Heap, public testing::WithParamInterface<Kind> {};

INSTANTIATE_TEST_SUITE_P(Kinds, HeapWrites,
                         testing::Values(Kind{"Replaces", 200, true, 0}, Kind{"ShrinksWithinItsBlock", 130, true, 0},
                                         Kind{"Grows", 9000, true, 0}, Kind{"Shrinks", 40, true, 0}, Kind{"Inserts", 200, false, 0},
                                         Kind{"InsertsIntoANewTable", 200, false, 6}, Kind{"Removes", 0, true, 3}),
                         [](const auto& kind_info) { return std::string(kind_info.param.name); });

// What may happen to a database between two instructions of a writer. Every kind of write is stepped through: after each
// instruction a reader finds the old or the new record; and it is killed at instruction after instruction, each time
// followed by another writer, a check of everything, and a look whether blocks get lost. With
// TDBMESH_HEAP_INSTRUCTIONS=100000 it is each instruction there is.
TEST_P(HeapWrites, KilledAndWatchedAtEachInstruction) {
  const char* wanted = std::getenv("TDBMESH_HEAP_INSTRUCTIONS");
  const int kills = wanted == nullptr ? 30 : std::atoi(wanted);
  create(~std::uint64_t{0}, 2);
  const auto db = must_open(path);
  const auto file = HeapFile::open(db->anchor(), true);
  ASSERT_TRUE(file);
  const Bytes key = "the key";
  Bytes other;  // on the same chain
  for (int i = 0; other.empty(); ++i) {
    if (db->chain_of(std::to_string(i)) == db->chain_of(key)) other = std::to_string(i);
  }
  const Bytes before = value_of(1, 200);
  const Kind& kind = GetParam();
  const std::optional<Bytes> after = kind.after == 0 ? std::nullopt : std::optional<Bytes>(value_of(2, kind.after));
  const auto prepare = [&] {
    ASSERT_TRUE(db->drop_all());  // and the chain is swept by the first of these
    for (int i = 0, n = 0; n < kind.companions; ++i) {
      const Bytes companion = "companion " + std::to_string(i);
      if (db->chain_of(companion) != db->chain_of(key)) continue;
      ASSERT_TRUE(db->store(companion, "c"));
      ++n;
    }
    if (kind.there) {
      ASSERT_TRUE(db->store(key, before));
    }
  };
  const auto lock = [&] {
    if (!db->lock(key)) std::abort();
  };
  const auto write = [&] {
    if (!(after ? db->store(key, *after).has_value() : db->erase(key).has_value())) std::abort();
  };
  const std::optional<Bytes> old = kind.there ? std::optional<Bytes>(before) : std::nullopt;
  Bytes seen;
  const auto old_or_new = [&] {
    const auto found = db->fetch_into(key, seen);
    if (!found) return false;
    return *found ? (old == seen || after == seen) : (!old || !after);
  };
  prepare();
  int instructions = 0;
  {
    SteppedChild child(lock, write);
    for (; child.step(); ++instructions) {
      if (instructions % 3 == 0) {
        ASSERT_TRUE(old_or_new()) << "after instruction " << instructions;
      }
    }
  }
  ASSERT_GT(instructions, 100);
  ASSERT_EQ(*db->fetch(key), after);
  std::uint64_t top = 0;
  const int stride = std::max(1, instructions / kills);
  Random random(8);
  int done = 0;
  for (int at = 0; at < instructions; at += 1 + (stride > 1 ? static_cast<int>(random.below(2 * static_cast<std::uint64_t>(stride) - 1)) : 0), ++done) {
    prepare();
    SteppedChild child(lock, write);
    for (int i = 0; i < at && child.step(); ++i) {
    }
    child.kill();
    ASSERT_TRUE(old_or_new()) << "killed after instruction " << at;
    const auto left = *db->fetch(key);
    if (done % 2 == 0) {
      // Who has the chain is shown the value where it lies, and puts away what is half done before.
      std::optional<Bytes> shown;
      ASSERT_TRUE(db->lock(key));
      const auto found = db->parse(key, [&](BytesView value) { shown = Bytes(value); });
      ASSERT_TRUE(found);
      ASSERT_EQ(*found, shown.has_value());
      ASSERT_EQ(shown, left) << "killed after instruction " << at;
      ASSERT_TRUE(db->unlock(key));
    }
    // Another writer of the chain goes on, and tidies up. No store of the dead takes effect after its reader looked.
    ASSERT_TRUE(db->store(other, std::to_string(at)));
    ASSERT_EQ(*db->fetch(key), left) << "killed after instruction " << at;
    const auto sound = db->check();
    ASSERT_TRUE(sound) << sound.error().context << ", killed after instruction " << at;
    expect_redo_slots_free(**file);
    if (done == 5) top = (*file)->top();
  }
  // A block may be lost in the one or two instructions after it was taken, not in each of these kills.
  EXPECT_LE((*file)->top() - top, 12'000u * 4) << done << " kills";
  expect_all_free(*db);
}

// Dead and stopped writers may have all redo slots that a store tries.
TEST_F(Heap, WithoutARedoSlotAStoreTakesAnotherBlock) {
  create();
  const auto db = must_open(path);
  const auto file = HeapFile::open(db->anchor(), false);
  ASSERT_TRUE(file);
  ASSERT_TRUE(db->store("k", value_of(1, 200)));
  for (unsigned n = 0; n < kRedoSlots; ++n) (*file)->redo(n).owner = kRedoNumber | 1 << 1;
  EXPECT_FALSE(db->check()) << "a slot whose chain does not know of it";
  for (std::uint64_t n = 2; n < 50; ++n) {
    ASSERT_TRUE(db->store("k", value_of(n, 200 + n % 3)));
    ASSERT_EQ(*db->fetch("k"), value_of(n, 200 + n % 3));
  }
  for (unsigned n = 0; n < kRedoSlots; ++n) (*file)->redo(n).owner = kRedoNumber;
  ASSERT_TRUE(db->store("k", value_of(50, 200)));
  EXPECT_EQ(*db->fetch("k"), value_of(50, 200));
  expect_sound(*db);
  expect_redo_slots_free(**file);
}

// A writer stopped at a random instant of its stores: readers go on, and the daemon gets Busy within its patience.
TEST_F(Heap, StoppedWriterBlocksNoReaderAndNotTheDaemon) {
  create(~std::uint64_t{0}, 1);
  ASSERT_TRUE(must_open(path)->store("k", value_of(1, 100)));
  const auto reader = must_open(path, Role::Daemon);
  Random random(6);
  for (int round = 0; round < 15; ++round) {
    Signpost writing;
    ChildProcess writer([&] {
      for (std::uint64_t n = 2;; ++n) {
        // Some of them over the old value, some into another block.
        if (!reader->store("k", value_of(n, 100 + n % (round % 2 == 0 ? 20 : 5000)))) return 1;
        if (n == 3) writing.post();
      }
      return 0;
    });
    writing.wait();
    ::usleep(static_cast<useconds_t>(random.below(3000)));
    ASSERT_EQ(::kill(writer.pid(), SIGSTOP), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(writer.pid(), &status, WUNTRACED), writer.pid());
    for (int i = 0; i < 100; ++i) {
      const auto value = reader->fetch("k");
      ASSERT_TRUE(value && *value);
      ASSERT_TRUE(number_in(**value));
    }
    EXPECT_EQ(reader->scan(0, 10)->items.size(), 1u);
    const auto stored = reader->store("k", value_of(1, 100));
    if (!stored) {
      EXPECT_EQ(stored.error().fault, Fault::Busy);
    }
    writer.kill_and_wait();
    EXPECT_TRUE(reader->store("k", value_of(1, 100)));
  }
  expect_sound(*reader);
}

TEST_F(Heap, StoppedReaderBlocksNobody) {
  create();
  const auto db = must_open(path);
  ASSERT_TRUE(db->store("k", value_of(1, 1000)));
  Signpost reading;
  ChildProcess reader([&] {
    (void)db->parse("k", [&](BytesView) {
      reading.post();
      ::pause();
    });
    return 0;
  });
  reading.wait();
  for (std::uint64_t n = 2; n < 2000; ++n) ASSERT_TRUE(db->store("k", value_of(n, 1000)));
  EXPECT_LT(db->map_size(), 4u << 20);  // nothing is kept for it
}

// While others insert, remove and let tables grow, a scan shows each record that stays exactly once.
TEST_F(Heap, ScanUnderChangeShowsWhatStaysOnce) {
  create(~std::uint64_t{0}, 4);
  const auto db = must_open(path);
  std::set<Bytes> stays;
  for (int i = 0; i < 500; ++i) {
    const Bytes key = "stays " + std::to_string(i);
    ASSERT_TRUE(db->store(key, value_of(1, 100)));
    stays.insert(key);
  }
  ChildProcess changer([&] {
    Random random(7);
    for (std::uint64_t n = 1;; ++n) {
      const Bytes key = "goes " + std::to_string(random.below(3000));
      if (random.chance(2) ? !db->store(key, value_of(n, 40 + random.below(500))).has_value() : !db->erase(key).has_value()) return 1;
      if (!db->store("stays " + std::to_string(random.below(500)), value_of(n, 40 + random.below(500)))) return 2;
    }
    return 0;
  });
  for (int round = 0; round < 100; ++round) {
    std::multiset<Bytes> seen;
    std::uint64_t at = 0;
    for (bool done = false; !done;) {
      auto batch = db->scan(at, 64);
      ASSERT_TRUE(batch);
      for (const LmdbItem& item : batch->items) {
        ASSERT_TRUE(number_in(item.value)) << item.key;
        if (stays.contains(item.key)) seen.insert(item.key);
      }
      at = batch->next;
      done = batch->done;
    }
    ASSERT_EQ(seen.size(), stays.size()) << round;
    ASSERT_EQ(std::set<Bytes>(seen.begin(), seen.end()), stays);
  }
  ASSERT_EQ(changer.kill_and_wait(), 1000 + SIGKILL) << "ended by itself";
  expect_sound(*db);
}

// Clients in flight when the database is emptied: nothing of the old life is in the new one.
TEST_F(Heap, DroppedUnderLoadStaysEmptyOfTheOldLife) {
  create(~std::uint64_t{0}, 16);
  SharedMemory<std::atomic<std::uint64_t>> epoch_written_memory;
  auto* const epoch_written = epoch_written_memory.operator->();
  ChildProcess client([&] {
    const auto mine = must_open(path);
    for (std::uint64_t n = 0;; ++n) {
      const Bytes key = std::to_string(n % 300);
      if (!mine->locks().lock(mine->chain_of(key))) return 1;
      // What is written says under which epoch its lock was taken.
      const auto epoch = mine->locks().epoch_when_taken(mine->chain_of(key));
      const auto stored = mine->store(key, value_of(*epoch, 60 + n % 500));
      if (!stored && stored.error().fault != Fault::Refused) return 2;
      epoch_written->store(*epoch);
      if (!mine->unlock(key)) return 3;
    }
    return 0;
  });
  const auto daemon = must_open(path, Role::Daemon);
  for (int round = 0; round < 200; ++round) {
    while (epoch_written->load() < daemon->epoch()) ::usleep(50);
    while (!daemon->locks().gather_all()) ::usleep(10);
    ASSERT_TRUE(daemon->drop_all());
    EXPECT_EQ(*daemon->record_count(), 0u);
    daemon->locks().release_gathered();
    for (const auto& [key, value] : all(*daemon)) ASSERT_GE(*number_in(value), daemon->epoch());
  }
  ASSERT_EQ(client.kill_and_wait(), 1000 + SIGKILL) << "ended by itself";
  expect_sound(*daemon);
}

}  // namespace
}  // namespace tdbmesh
