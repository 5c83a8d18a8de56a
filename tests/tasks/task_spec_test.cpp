// headlens/tests: suggestions for misspelt names.
#include "tasks/task_spec.h"
#include "core/near_words.h"

#include <gtest/gtest.h>

namespace headlens {
namespace {

TEST(EditDistance, CountsSlips) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("segment", "segments"), 1);
  EXPECT_EQ(edit_distance("anwser", "answer"), 1);  // neighbours swapped
}

TEST(Suggestion, NeedsARealLikeness) {
  EXPECT_EQ(suggestion("world-mqc", {"kv", "world-mcq"}), " (did you mean 'world-mcq'?)");
  EXPECT_EQ(suggestion("xy", {"kv", "mcq"}), "");
  EXPECT_EQ(suggestion("", {"kv", "n"}), "");
}

}  // namespace
}  // namespace headlens
