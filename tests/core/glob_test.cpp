// headlens/tests: shell-style matching.
#include "core/glob.h"

#include <gtest/gtest.h>

#include <string>

namespace headlens {
namespace {

struct GlobCase {
  const char* pattern;
  const char* text;
  bool matches;
};

class GlobMatch : public ::testing::TestWithParam<GlobCase> {};

TEST_P(GlobMatch, Agrees) {
  const auto& [pattern, text, matches] = GetParam();
  EXPECT_EQ(glob_match(pattern, text), matches) << pattern << " against " << text;
}

// Expected values are Python's fnmatch.fnmatchcase.
INSTANTIATE_TEST_SUITE_P(
    Cases, GlobMatch,
    ::testing::Values(
        GlobCase{"", "", true}, GlobCase{"", "a", false}, GlobCase{"*", "", true},
        GlobCase{"*", "a.b", true}, GlobCase{"**", "ab", true}, GlobCase{"a*", "a", true},
        GlobCase{"a*b", "ab", true}, GlobCase{"a*b", "axxb", true}, GlobCase{"a*b", "axxbc", false},
        GlobCase{"*.weight", "h.0.attn.weight", true}, GlobCase{"*ab*ab", "abab", true},
        GlobCase{"*ab*ab", "ab", false}, GlobCase{"*aab", "aaaab", true},
        GlobCase{"a?c", "abc", true}, GlobCase{"a?c", "ac", false}, GlobCase{"?", "", false},
        GlobCase{"h.[0-3].x", "h.2.x", true}, GlobCase{"h.[0-3].x", "h.4.x", false},
        GlobCase{"[!0-3]", "4", true}, GlobCase{"[!0-3]", "2", false}, GlobCase{"[abc]", "b", true},
        GlobCase{"[a-]", "-", true}, GlobCase{"[]]", "]", true}, GlobCase{"[!]]", "]", false},
        GlobCase{"[!]]", "a", true}, GlobCase{"[", "[", true}, GlobCase{"a[b", "a[b", true},
        GlobCase{"[]", "[]", true}, GlobCase{"[ac-e]x*", "dxyz", true},
        GlobCase{"abc", "abcd", false}, GlobCase{"abcd", "abc", false}));

TEST(GlobMatchCost, StaysPolynomialOnManyStars) {
  std::string pattern;
  for (int i = 0; i < 30; ++i) pattern += "*a";
  EXPECT_FALSE(glob_match(pattern + "b", std::string(2000, 'a')));
}

}  // namespace
}  // namespace headlens
