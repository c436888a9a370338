// The same script of libtdb calls on a real TDB with the real libtdb, and on one of our databases through the
// shim: every return code, error code and byte of data has to be the same. The scripts are in shim_scripts/.

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <tuple>

#include "tests/contract/shim_support.h"

namespace tdbmesh::shim_test {
namespace {

struct Kind {
  std::string name;
  std::string flags;  // what ctdbd answers for it (without mutexes, whose read locks exclude each other)
};
const Kind kPersistent{"persistent", "default"};
const Kind kVolatile{"volatile", "clear|nosync|hash"};

std::string script(const std::string& name, const Kind& kind, int seed) {
  std::string text = read_whole(std::string(TDBMESH_SHIM_SCRIPTS) + "/" + name + ".txt");
  text = replace_all(text, "$FLAGS", kind.flags + "|disallow");
  text = replace_all(text, "$BASE", kind.flags);
  return replace_all(text, "$SEED", std::to_string(seed));
}

// The first line that differs, with a few before it: the whole is thousands of lines.
std::string first_difference(const std::string& expected, const std::string& actual) {
  std::istringstream left(expected), right(actual);
  std::string a, b, before;
  for (int number = 1;; ++number) {
    const bool more_left = static_cast<bool>(std::getline(left, a));
    const bool more_right = static_cast<bool>(std::getline(right, b));
    if (!more_left && !more_right) return "";
    if (a != b || more_left != more_right) {
      return before.substr(before.size() > 600 ? before.size() - 600 : 0) + "line " + std::to_string(number) +
             "\n libtdb: " + (more_left ? a : "(end)") + "\n shim:   " + (more_right ? b : "(end)");
    }
    before += a.substr(0, 150) + "\n";
  }
}

void expect_same(const std::string& name, const Kind& kind, int seed = 1) {
  const std::string text = script(name, kind, seed);
  ASSERT_FALSE(text.empty()) << name;
  const TemporaryDirectory plain, ours;
  const Ran expected = run({TDBMESH_SHIM_RUNNER, plain.path() + "/test.tdb"}, Shim::Without, text);
  ASSERT_EQ(expected.status, 0);
  ASSERT_EQ(expected.output.find("unknown command"), std::string::npos) << expected.output;
  Daemon daemon(ours.path(), {"test.tdb:" + kind.name});
  const Ran actual = run({TDBMESH_SHIM_RUNNER, daemon.path()}, Shim::With, text);
  EXPECT_EQ(actual.status, 0) << actual.errors;
  const std::string difference = first_difference(expected.output, actual.output);
  EXPECT_TRUE(difference.empty()) << difference << "\n" << actual.errors;
  EXPECT_GT(expected.output.size(), 100u);
}

class ShimDifferential : public testing::TestWithParam<std::tuple<std::string, const Kind*>> {};

TEST_P(ShimDifferential, AnswersAsLibtdbDoes) { expect_same(std::get<0>(GetParam()), *std::get<1>(GetParam())); }

INSTANTIATE_TEST_SUITE_P(Scripts, ShimDifferential,
                         testing::Combine(testing::Values("records", "seqnum", "locks", "transactions", "nesting",
                                                          "readonly", "processes", "process_transactions", "fork",
                                                          "signals"),
                                          testing::Values(&kPersistent, &kVolatile)),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" + std::get<1>(test.param)->name;
                         });

class ShimRandomDifferential : public testing::TestWithParam<int> {};

TEST_P(ShimRandomDifferential, SingleOperationsOfVolatileDatabases) {
  expect_same("random_plain", kVolatile, GetParam());
}
TEST_P(ShimRandomDifferential, SingleOperationsOfPersistentDatabases) {
  expect_same("random_plain", kPersistent, GetParam());
}
TEST_P(ShimRandomDifferential, TransactionsOfPersistentDatabases) {
  expect_same("random_transactions", kPersistent, GetParam());
}
TEST_P(ShimRandomDifferential, TransactionsOfVolatileDatabases) {
  expect_same("random_transactions", kVolatile, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Seeds, ShimRandomDifferential, testing::Range(1, 6));

}  // namespace
}  // namespace tdbmesh::shim_test
