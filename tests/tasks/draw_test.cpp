// headlens/tests: random draws, against values from an independent mt19937_64 written from the
// paper.
#include "tasks/draw.h"

#include <gtest/gtest.h>

#include <set>

namespace headlens {
namespace {

TEST(Draw, MatchesTheIndependentGenerator) {
  Draw draw(7);
  std::vector<int64_t> drawn;
  for (int i = 0; i < 12; ++i) drawn.push_back(draw.below(10));
  EXPECT_EQ(drawn, (std::vector<int64_t>{5, 0, 8, 6, 1, 8, 9, 8, 1, 0, 6, 5}));
  EXPECT_EQ(Draw(7).sample(5, 9), (std::vector<int64_t>{0, 3, 1, 2, 5}));
  EXPECT_DOUBLE_EQ(Draw(7).unit(), 0.754385304152858);
}

TEST(Draw, SampleHoldsEveryNumberOnce) {
  const auto all = Draw(1).sample(50, 50);
  EXPECT_EQ(std::set<int64_t>(all.begin(), all.end()).size(), 50u);
  EXPECT_EQ(*std::min_element(all.begin(), all.end()), 0);
  EXPECT_EQ(*std::max_element(all.begin(), all.end()), 49);
}

TEST(Draw, BetweenReachesBothEnds) {
  Draw draw(2);
  std::set<int64_t> seen;
  for (int i = 0; i < 200; ++i) seen.insert(draw.between(-1, 2));
  EXPECT_EQ(seen, (std::set<int64_t>{-1, 0, 1, 2}));
}

}  // namespace
}  // namespace headlens
