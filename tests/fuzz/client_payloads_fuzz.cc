// The data of controls and messages. The first byte of the input chooses the structure.

#include <array>

#include "db/base/check.h"
#include "tests/fuzz/fuzz.h"
#include "transport/ctdb_payloads.h"
#include "transport/ctdb_statistics.h"
#include "transport/ctdb_tunables.h"

namespace {

using namespace tdbmesh;
using namespace tdbmesh::ctdb;

// What decodes must encode, and what was encoded must decode and encode to the same bytes. (Bytes are compared,
// not values: a NaN in the statistics is not equal to itself.)
template <class T>
void check(BytesView input) {
  const auto value = decode<T>(input);
  if (!value) return;
  const Bytes bytes = encode(*value);
  const auto again = decode<T>(bytes);
  TDBMESH_CHECK(again && encode(*again) == bytes);
}

void check_texts(BytesView input) {
  const auto text = decode_text(input);
  if (text) TDBMESH_CHECK(decode_text(encode_text(*text)).value() == *text);
  (void)decode_u32(input);
  (void)decode_i32(input);
  (void)decode_u64(input);
  (void)decode_padded_database(input);
}

void check_addresses(BytesView input) {
  for (const auto& address : {parse_address(input), parse_address_and_port(input)}) {
    if (address) TDBMESH_CHECK(parse_address(to_string(*address), address->port) == address);
  }
}

using Check = void (*)(BytesView);
constexpr std::array<Check, 35> kChecks = {
    check<SockAddr>,        check<NodeMap>,          check<VnnMap>,
    check<Uptime>,          check<BanState>,         check<NodeFlagChange>,
    check<DatabaseMap>,     check<KeyData>,          check<TransactionDatabase>,
    check<PullDatabase>,    check<VacuumDatabase>,   check<TraverseStart>,
    check<TraverseStartExt>, check<TraverseRecord>,  check<PidSrvid>,
    check<NotifyData>,      check<EchoData>,         check<SrvidMessage>,
    check<DisableMessage>,  check<PublicIp>,         check<PublicIpList>,
    check<Connection>,      check<TickleList>,       check<Iface>,
    check<IfaceList>,       check<PublicIpInfo>,     check<AddressInfo>,
    check<Statistics>,      check<StatisticsHistory>, check<DatabaseStatistics>,
    check<Tunables>,        check<CountedText>,      check<SetTunable>,
    check_texts,            check_addresses,
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  kChecks[data[0] % kChecks.size()](fuzz_view(data + 1, size - 1));
  return 0;
}

std::vector<Bytes> tdbmesh::fuzz_seeds() {
  const SockAddr v4 = v4_address(10, 0, 0, 1, 445);
  const SockAddr v6 = *parse_address("fd00::1", 445);
  DatabaseStatistics statistics;
  statistics.hot_keys[0] = {3, "key"};
  // In the order of kChecks.
  const std::vector<Bytes> values = {
      encode(v6),
      encode(NodeMap{{{Pnn{0}, 0, v4}, {Pnn{1}, 1, v6}}}),
      encode(VnnMap{5, {Pnn{0}, Pnn{1}}}),
      encode(Uptime{}),
      encode(BanState{}),
      encode(NodeFlagChange{}),
      encode(DatabaseMap{{{DatabaseId{1}, 1}, {DatabaseId{2}, 2}}}),
      encode(KeyData{DatabaseId{1}, 2, 3, 4, "key"}),
      encode(TransactionDatabase{}),
      encode(PullDatabase{}),
      encode(VacuumDatabase{}),
      encode(TraverseStart{}),
      encode(TraverseStartExt{}),
      encode(TraverseRecord{1, "key", "data"}),
      encode(PidSrvid{}),
      encode(NotifyData{Srvid{1}, "data"}),
      encode(EchoData{1, "data"}),
      encode(SrvidMessage{}),
      encode(DisableMessage{}),
      encode(PublicIp{Pnn{1}, v4}),
      encode(PublicIpList{{{Pnn{1}, v4}, {Pnn{1}, v6}}}),
      encode(Connection{v4, v6}),
      encode(TickleList{v4, {{v4, v6}}}),
      encode(Iface{"eth0", true, 1}),
      encode(IfaceList{{{"eth0", true, 1}, {"eth1", true, 1}}}),
      encode(PublicIpInfo{{Pnn{1}, v4}, 0, {{"eth0", true, 1}}}),
      encode(AddressInfo{v4, 24, "eth0"}),
      encode(Statistics{}),
      encode(StatisticsHistory{{Statistics{}}}),
      encode(statistics),
      encode(Tunables{}),
      encode(CountedText{"NoIPFailback"}),
      encode(SetTunable{1, "NoIPFailback"}),
      encode_text("locking.tdb"),
      "[::ffff:10.1.2.3]:445",
  };
  TDBMESH_CHECK(values.size() == kChecks.size());
  std::vector<Bytes> seeds;
  for (std::size_t i = 0; i < values.size(); ++i) seeds.push_back(static_cast<char>(i) + values[i]);
  return seeds;
}
