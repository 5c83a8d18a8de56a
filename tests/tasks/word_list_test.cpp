// headlens/tests: the word list's own promises.
#include "tasks/word_list.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "headlens/tasks/world.h"

namespace headlens {
namespace {

TEST(WordList, IsSortedDistinctAndLowerCase) {
  const auto words = word_list();
  ASSERT_EQ(words.size(), 256u);
  EXPECT_TRUE(std::is_sorted(words.begin(), words.end()));
  EXPECT_EQ(std::adjacent_find(words.begin(), words.end()), words.end());
  for (const std::string_view word : words) {
    EXPECT_GE(word.size(), 2u);
    EXPECT_TRUE(std::all_of(word.begin(), word.end(), [](char c) { return c >= 'a' && c <= 'z'; }))
        << word;
  }
}

TEST(WordList, HasNoWordOfTheWorld) {
  const auto words = word_list();
  for (const WorldRelation& relation : made_up_world().relations) {
    EXPECT_FALSE(std::binary_search(words.begin(), words.end(), relation.name));
    for (const std::string& value : relation.values) {
      EXPECT_FALSE(std::binary_search(words.begin(), words.end(), value)) << value;
    }
  }
}

}  // namespace
}  // namespace headlens
