// Stands in for the daemon in tests of the libtdb shim: creates databases with LmdbStore, holds the gate, and
// does to them what the daemon does, on command.
//
// usage: make_anchor DIRECTORY {NAME:volatile|NAME:replicated|NAME:persistent}...
// Prints the path of each anchor, then reads commands, one a line, and answers each with a line:
//   open [MS]  opens the gate (for MS milliseconds; else until it is closed)     close   closes it
//   drop NAME  empties a volatile database and raises its epoch                  put NAME KEY VALUE   stores
//   get NAME KEY   quit  leaves in order (end of input does, too). A kill -9 is the daemon's sudden death.

#include <unistd.h>

#include <cstdint>
#include <iostream>
#include <limits>
#include <map>
#include <sstream>
#include <string>

#include "db/gate.h"
#include "db/lmdb_store.h"

using namespace tdbmesh;

namespace {

DatabaseKind kind_named(const std::string& word) {
  if (word == "persistent") return DatabaseKind::Persistent;
  return word == "replicated" ? DatabaseKind::Replicated : DatabaseKind::Volatile;
}

void open_gate(GateKeeper& gate, std::uint64_t milliseconds) {
  gate.set_open_until(milliseconds == 0 ? std::numeric_limits<std::uint64_t>::max()
                                        : gate_now() + milliseconds * 1'000'000u,
                      2);
}

std::string answer(const std::string& line, GateKeeper& gate, std::map<std::string, Database*>& databases) {
  std::istringstream words(line);
  std::string command, name, key, value;
  words >> command;
  if (command == "open") {
    std::uint64_t milliseconds = 0;
    words >> milliseconds;
    return open_gate(gate, milliseconds), "done";
  }
  if (command == "close") return gate.close(), "done";
  words >> name >> key >> value;
  const auto found = databases.find(name);
  if (found == databases.end()) return "no such database";
  if (command == "drop") {
    for (;;) {  // the daemon comes back to it from its loop
      const auto dropped = found->second->drop_all();
      if (dropped) return "done";
      if (dropped.error().fault != Fault::Busy) return dropped.error().context;
      ::usleep(1000);
    }
  }
  if (command == "put") {
    while (!found->second->try_lock(key)) ::usleep(1000);
    const auto stored = found->second->store(key, RecordHeader{}, value);
    found->second->unlock(key);
    return stored ? "done" : stored.error().context;
  }
  if (command == "get") {
    const auto got = found->second->fetch(key);
    if (!got) return got.error().context;
    return *got ? (*got)->value : "none";
  }
  return "unknown command";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::cerr << "usage: make_anchor DIRECTORY NAME:KIND...\n", 2;
  const std::string directory = argv[1];
  auto gate = GateKeeper::open(directory + "/gate");
  if (!gate) return std::cerr << gate.error().context << '\n', 1;
  LmdbStoreConfig config;
  config.volatile_dir = directory + "/volatile";
  config.persistent_dir = directory + "/persistent";
  config.gate_path = directory + "/gate";
  config.map_size = 256u << 20;
  auto store = LmdbStore::create(config);
  if (!store) return std::cerr << store.error().context << '\n', 1;
  std::map<std::string, Database*> databases;
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    const auto colon = word.rfind(':');
    const std::string name = word.substr(0, colon);
    auto database = (*store)->open(name, kind_named(word.substr(colon + 1)));
    if (!database) return std::cerr << database.error().context << '\n', 1;
    databases[name] = *database;
    std::cout << (*database)->path() << std::endl;
  }
  open_gate(**gate, 0);
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    std::cout << answer(line, **gate, databases) << std::endl;
  }
}
