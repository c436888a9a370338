#include "transport/cluster_key.h"

#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace tdbmesh {
namespace {

using testing::HasSubstr;

class ClusterKeyFile : public testing::Test {
 protected:
  TempDir directory_;
  std::string path_ = directory_ / "cluster.key";
};

TEST_F(ClusterKeyFile, LoadsWhatWasSaved) {
  const ClusterKey key = generate_cluster_key().value();
  ASSERT_TRUE(save_cluster_key(path_, key));
  EXPECT_EQ(load_cluster_key(path_).value(), key);
}

TEST_F(ClusterKeyFile, IsCreatedForItsOwnerAlone) {
  ASSERT_TRUE(save_cluster_key(path_, generate_cluster_key().value()));
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(ClusterKeyFile, IsNeverOverwritten) {
  const ClusterKey key = generate_cluster_key().value();
  ASSERT_TRUE(save_cluster_key(path_, key));
  const auto again = save_cluster_key(path_, generate_cluster_key().value());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().fault, Fault::Exists);
  EXPECT_EQ(load_cluster_key(path_).value(), key);
}

TEST_F(ClusterKeyFile, IsRefusedWhenOthersMayReadIt) {
  ASSERT_TRUE(save_cluster_key(path_, generate_cluster_key().value()));
  ASSERT_EQ(chmod(path_.c_str(), 0640), 0);
  const auto loaded = load_cluster_key(path_);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().fault, Fault::Refused);
  EXPECT_THAT(loaded.error().context, HasSubstr("chmod 600"));
}

TEST_F(ClusterKeyFile, ThatIsMissingIsNotFound) {
  EXPECT_EQ(load_cluster_key(path_).error().fault, Fault::NotFound);
}

TEST(ClusterKey, TwoKeysDiffer) { EXPECT_NE(generate_cluster_key().value(), generate_cluster_key().value()); }

TEST(ClusterKey, NamesTheLineThatIsWrong) {
  const ClusterKey key = generate_cluster_key().value();
  const auto wrong = [](const std::string& text) { return parse_cluster_key(text, "k").error().context; };
  EXPECT_THAT(wrong("# x\npublic short\n"), HasSubstr("k:2: the public key is not 40 characters"));
  EXPECT_THAT(wrong("hello\n"), HasSubstr("k:1: expected"));
  EXPECT_THAT(wrong("public " + key.public_key + "\n"), HasSubstr("the secret key is missing"));
  EXPECT_THAT(wrong("public " + key.public_key + "\npublic " + key.public_key + "\n"), HasSubstr("a second public"));
}

TEST(ClusterKey, HalvesOfTwoPairsAreRefusedWithoutShowingTheSecret) {
  const ClusterKey one = generate_cluster_key().value();
  const ClusterKey two = generate_cluster_key().value();
  const auto parsed = parse_cluster_key(format_cluster_key({one.public_key, two.secret_key}), "k");
  ASSERT_FALSE(parsed);
  EXPECT_THAT(parsed.error().context, HasSubstr("do not belong together"));
  EXPECT_THAT(parsed.error().context, testing::Not(HasSubstr(two.secret_key)));
}

}  // namespace
}  // namespace tdbmesh
