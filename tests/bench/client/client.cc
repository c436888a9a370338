// The client of the benchmarks: one process on one node that loads the daemon in one way for some seconds and prints one
// line of JSON. It speaks CTDB's client protocol and opens databases through libtdb, so it loads the real CTDB as it is
// and tdbmesh with LD_PRELOAD=libtdbmesh-tdb.so. tests/bench/run starts it; `client --help` lists what it can do.

#include <CLI/CLI.hpp>

#include "workload.h"

int main(int argc, char** argv) {
  using namespace tdbmesh;
  using namespace tdbmesh::bench;
  Options options;
  CLI::App app("Loads the daemon at SOCKET in one way and prints one line of JSON.");
  app.add_option("--socket", options.socket, "the daemon's client socket")->required();
  app.add_option("--seconds", options.seconds, "how long to measure");
  app.add_option("--database", options.database, "name of the database, attached if it is not there");
  app.add_option("--tag", options.tag, "part of all keys: what must not meet others' keys gets its own");
  app.add_option("--nodes", options.nodes, "nodes that take part, pnn 0 and up")->check(CLI::Range(1, 1000));
  app.add_option("--value-size", options.value_size, "bytes of a value")->check(CLI::Range(20, 1 << 20));
  app.add_option("--seed", options.seed, "of the random keys");
  app.add_flag("--wait", options.wait, "print \"ready\" and begin when a line is read");
  app.require_subcommand(1);

  using Workload = void (*)(ctdb::Client&, const Options&);
  Workload chosen = nullptr;
  const auto add = [&](const char* name, Workload workload, const char* about) {
    return app.add_subcommand(name, about)->fallthrough()->callback([&chosen, workload] { chosen = workload; });
  };
  const auto with_keys = [&](CLI::App* command) {
    command->add_option("--keys", options.keys, "number of records")->check(CLI::PositiveNumber);
    return command;
  };
  add("ring", ring, "one record goes round the nodes: lock, increment, tell the next");
  add("hot", hot, "lock and increment one record that all want");
  with_keys(add("many", many, "lock and increment random records out of many"))
      ->add_option("--zipf", options.zipf, "exponent of Zipf's distribution; 0: uniform");
  with_keys(add("local", local, "lock and increment records that are here"));
  with_keys(add("parse", parse, "read records that are here"));
  with_keys(add("fill", fill, "put new records there"));
  add("txn", transactions, "transactions of a persistent database");
  add("msg", message_ring, "two messages go round the nodes in opposite directions");
  add("ping", ping, "the control PING, one after the other")->add_option("--node", options.node, "to this node");
  add("traverse", traverse, "traverse the database");
  CLI::App* attaching = add("attach", attach, "attach and open new databases");
  attaching->add_option("--count", options.count, "how often");
  attaching->add_flag("--again", options.again, "always the same one");
  CLI11_PARSE(app, argc, argv);

  auto client = or_die(ctdb::Client::connect(options.socket), "connect");
  chosen(client, options);
  return 0;
}
