#include <gtest/gtest.h>

#include <cstdlib>

#include "tools/client/g_lock_value.h"
#include "tools/dbtool/arguments.h"
#include "tools/dbtool/decode.h"
#include "tools/dbtool/digest.h"

namespace tdbmesh::dbtool {
namespace {

std::string hex(const Sha256& sum) { return to_hex(BytesView(reinterpret_cast<const char*>(sum.data()), sum.size())); }

std::string field(const std::optional<Fields>& fields, const std::string& name) {
  if (!fields) return "(no view)";
  for (const auto& [key, value] : *fields) {
    if (key == name) return value;
  }
  return "(no field)";
}

TEST(Sha256, GivesTheStandardsExamples) {
  EXPECT_EQ(hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hex(sha256(Bytes(1000000, 'a'))), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Digest, DoesNotDependOnTheOrder) {
  Digest one;
  one.add("a", "1");
  one.add("b", "2");
  Digest other;
  other.add("b", "2");
  other.add("a", "1");
  EXPECT_EQ(one.hex(), other.hex());
}

TEST(Digest, TellsKeysFromValuesAndCountsRecords) {
  Digest one;
  one.add("ab", "c");
  Digest other;
  other.add("a", "bc");
  EXPECT_NE(one.hex(), other.hex());
  Digest twice;
  twice.add("ab", "c");
  twice.add("ab", "c");
  EXPECT_NE(one.hex(), twice.hex());
}

TEST(Decode, ReadsASecuritysIdentifier) {
  ByteWriter sid;
  sid.put(std::uint8_t{1}).put(std::uint8_t{4}).put_bytes(BytesView("\0\0\0\0\0\5", 6));
  for (const std::uint32_t part : {21u, 1u, 2u, 4294967295u}) sid.put(part);
  sid.put_zeros(44);
  EXPECT_EQ(sid_text(sid.bytes()), "S-1-5-21-1-2-4294967295");
  EXPECT_EQ(field(decode_record("secrets.tdb", "SECRETS/SID/PEERLAB", sid.bytes()), "sid"), "S-1-5-21-1-2-4294967295");
  EXPECT_EQ(sid_text(BytesView(sid.bytes()).substr(0, 10)), std::nullopt);
}

TEST(Decode, NeverShowsASecret) {
  EXPECT_EQ(field(decode_record("secrets.tdb", "SECRETS/MACHINE_PASSWORD/DOM", Bytes("geheim\0", 7)), "secret"),
            "(hidden, 7 bytes)");
}

// Written by `pdbedit -a` of Samba 4.17.12.
constexpr const char* kUserRecord =
    "000000007fa9547c7fa9547c00000000ee89046b000000007fa9547c070000006461656d6f6e0008000000504545524c4142"
    "000100000000070000006461656d6f6e00000000000000000000000000000000000100000000010000000001000000000100"
    "000000e8030000010200000000000010000000b39a61f16a4e11fa80580241f1d4aae80000000010000000a8001500000020"
    "000000ffffffffffffffffffffffffffffffffffffffffff000000000000000000000000000000ec040000";

TEST(Decode, ReadsAUserAsPdbeditWroteIt) {
  setenv("TZ", "UTC0", 1);
  tzset();
  const auto fields = decode_record("passdb.tdb", Bytes("USER_daemon\0", 12), from_hex(kUserRecord).value());
  EXPECT_EQ(field(fields, "username"), "daemon");
  EXPECT_EQ(field(fields, "domain"), "PEERLAB");
  EXPECT_EQ(field(fields, "full_name"), "daemon");
  EXPECT_EQ(field(fields, "user_rid"), "1000");
  EXPECT_EQ(field(fields, "group_rid"), "513");
  EXPECT_EQ(field(fields, "account_flags"), "[U]");
  EXPECT_EQ(field(fields, "lm_password"), "(none)");
  EXPECT_EQ(field(fields, "nt_password"), "(hidden, 16 bytes)");
  EXPECT_EQ(field(fields, "password_last_set"), "Mon Nov 23 18:46:06 2026");
  EXPECT_EQ(field(fields, "password_must_change"), "no limit");
  EXPECT_EQ(field(fields, "logon_count"), "0");
}

TEST(Decode, RefusesEveryTruncationOfAUser) {
  const Bytes whole = from_hex(kUserRecord).value();
  // The last four bytes hold nothing that is shown.
  for (std::size_t size = 0; size < whole.size() - 4; ++size) {
    EXPECT_EQ(decode_record("passdb.tdb", Bytes("USER_daemon\0", 12), BytesView(whole).substr(0, size)), std::nullopt) << size;
  }
}

TEST(Decode, ReadsIdMappings) {
  EXPECT_EQ(field(decode_record("idmap2.tdb", Bytes("UID 1000000\0", 12), Bytes("S-1-5-32-544\0", 13)), "sid"), "S-1-5-32-544");
  EXPECT_EQ(field(decode_record("idmap2.tdb", Bytes("S-1-5-32-544\0", 13), Bytes("GID 1000001\0", 12)), "id"), "GID 1000001");
  EXPECT_EQ(field(decode_record("idmap2.tdb", Bytes("USER HWM\0", 9), Bytes("\x40\x42\x0f\0", 4)), "next_id"), "1000000");
}

TEST(Decode, NamesTheHolderOfALock) {
  GLockValue lock;
  lock.exclusive = {.pid = 4711, .task_id = 0, .vnn = Pnn{1}, .unique_id = kUniqueIdNotToVerify};
  const auto fields = decode_record("g_lock.tdb", "k", encode_g_lock(lock));
  EXPECT_EQ(field(fields, "exclusive"), "1:4711");
}

TEST(Decode, KnowsNothingOfForeignAndDamagedRecords) {
  EXPECT_EQ(decode_record("other.tdb", "k", "v"), std::nullopt);
  EXPECT_EQ(decode_record("passdb.tdb", Bytes("USER_x\0", 7), "short"), std::nullopt);
  EXPECT_EQ(decode_record("g_lock.tdb", "k", "short"), std::nullopt);
}

TEST(Arguments, ChooseOneEncoding) {
  const auto hex_form = std::get<Arguments>(parse_arguments({"get", "db", "00ff", "--hex"}));
  EXPECT_EQ(hex_form.encoding, Encoding::Hex);
  EXPECT_EQ(hex_form.args, (std::vector<std::string>{"db", "00ff"}));
  EXPECT_EQ(typed_bytes("00ff", hex_form.encoding).value(), Bytes("\0\xff", 2));
  EXPECT_EQ(std::get<ctl::StopHere>(parse_arguments({"get", "--hex", "--base64", "db", "k"})).status, 1);
  EXPECT_EQ(std::get<ctl::StopHere>(parse_arguments({})).status, 1);
  EXPECT_EQ(std::get<ctl::StopHere>(parse_arguments({"--help"})).status, 0);
  EXPECT_FALSE(typed_bytes("0", Encoding::Hex));
}

TEST(Arguments, TakeOneDirectoryForEachFilesOption) {
  const auto a = std::get<Arguments>(parse_arguments({"--files", "/a", "--files", "/b", "dump", "db"}));
  EXPECT_EQ(a.files, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(a.verb, "dump");
}

TEST(Arguments, TypeAndShowTextWithEscapes) {
  EXPECT_EQ(typed_bytes("USER_x\\0", Encoding::Text).value(), Bytes("USER_x\0", 7));
  EXPECT_EQ(shown_bytes(Bytes("a\0b", 3), Encoding::Text), "a\\0b");
  EXPECT_EQ(shown_bytes("ab", Encoding::Base64), "YWI=");
}

}  // namespace
}  // namespace tdbmesh::dbtool
