#include "tools/daemon/ini_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tdbmesh {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(IniFile, ReadsIndentedOptionsUnderTheirSection) {
  const auto ini = parse_ini("[logging]\n\tlocation = syslog\n\t# note\n\n\tlog level = NOTICE\n[cluster]\n x=y\n", "f");
  ASSERT_TRUE(ini);
  EXPECT_THAT(ini->options, ElementsAre(IniOption{"logging", "location", "syslog", 2, true},
                                        IniOption{"logging", "log level", "NOTICE", 5, true},
                                        IniOption{"cluster", "x", "y", 7, true}));
  EXPECT_EQ(ini->sections.size(), 2u);
}

TEST(IniFile, KeepsCommentSignsAndEqualSignsInsideValues) {
  const auto ini = parse_ini("[a]\ncluster lock = !/bin/helper --x=1 ; #2\n; gone\n", "f");
  ASSERT_TRUE(ini);
  ASSERT_EQ(ini->options.size(), 1u);
  EXPECT_EQ(ini->options[0].value, "!/bin/helper --x=1 ; #2");
}

TEST(IniFile, JoinsLinesThatEndInABackslash) {
  const auto ini = parse_ini("[a]\nname = one \\\n  two\nnext = 3\n", "f");
  ASSERT_TRUE(ini);
  EXPECT_THAT(ini->options, ElementsAre(IniOption{"a", "name", "one two", 2, true}, IniOption{"a", "next", "3", 4, true}));
}

TEST(IniFile, TakesRunsOfBlanksInNamesAsOne) {
  const auto ini = parse_ini("[ a ]\nleader \t timeout=4", "f");
  ASSERT_TRUE(ini);
  EXPECT_THAT(ini->options, ElementsAre(IniOption{"a", "leader timeout", "4", 2, true}));
}

TEST(IniFile, MarksALineWithoutEqualsSign) {
  const auto ini = parse_ini("[a]\nlonely\n", "f");
  ASSERT_TRUE(ini);
  EXPECT_FALSE(ini->options.at(0).has_value);
}

TEST(IniFile, NamesTheLineThatIsWrong) {
  const auto wrong = [](std::string_view text) { return parse_ini(text, "f").error().context; };
  EXPECT_THAT(wrong("\n[open\n"), HasSubstr("f:2: a section is written [NAME]"));
  EXPECT_THAT(wrong("[ ]\n"), HasSubstr("f:1: a section without a name"));
  EXPECT_THAT(wrong("[a]\n= 3\n"), HasSubstr("f:2: a value without a name"));
  EXPECT_THAT(wrong(std::string_view("a\0b", 3)), HasSubstr("f:1: not a text file"));
}

}  // namespace
}  // namespace tdbmesh
