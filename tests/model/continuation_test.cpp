// headlens/tests: a text cut anywhere and put together again, and where stop strings begin.
#include "model/continuation.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace headlens {
namespace {

constexpr std::string_view kText =
    "The  quick brown fox, caf\xC3\xA9 and na\xC3\xAFve:\n\tx = 10 + 2; \xE6\x97\xA5\xE6\x9C\xAC "
    "\xF0\x9F\x99\x82 end.";
constexpr std::string_view kBroken = "\xEF\xBF\xBD";  // U+FFFD

/// Every place of every text: what stands before it and what goes on after it are the whole.
TEST(ContinuationTest, ATextGoesOnWhereItWasCut) {
  const std::filesystem::path dir = std::filesystem::path(HEADLENS_GOLDEN_DIR) / "tokenizers";
  for (const char* name : {"gpt2.json", "llama3.json", "falcon.json", "sentencepiece.json",
                           "metaspace_always.json", "metaspace_first.json"}) {
    SCOPED_TRACE(name);
    const Tokenizer tokenizer = Tokenizer::load(dir / name);
    const std::vector<int64_t> ids = tokenizer.encode(kText);
    const std::string whole = tokenizer.decode(ids);
    const std::span<const int64_t> all(ids);
    int cuts = 0;
    for (size_t at = 1; at < ids.size(); ++at) {
      const std::string before = tokenizer.decode(all.first(at));
      if (before.ends_with(kBroken)) continue;  // inside a letter
      EXPECT_EQ(before + continuation_text(tokenizer, all.first(at), all.subspan(at)), whole) << at;
      ++cuts;
    }
    EXPECT_GT(cuts, 10);
    EXPECT_EQ(continuation_text(tokenizer, {}, all), whole);
  }
}

TEST(ContinuationTest, ALetterBegunByThePromptIsLeftToIt) {
  const auto dir = std::filesystem::path(HEADLENS_GOLDEN_DIR) / "tokenizers";
  const Tokenizer tokenizer = Tokenizer::load(dir / "gpt2.json");
  const std::vector<int64_t> ids = tokenizer.encode("\xF0\x9F\x99\x82 end");
  const std::span<const int64_t> all(ids);
  ASSERT_GT(ids.size(), 2u);
  ASSERT_TRUE(tokenizer.decode(all.first(1)).ends_with(kBroken));
  EXPECT_TRUE(continuation_text(tokenizer, all.first(1), all.subspan(1)).ends_with(" end"));
}

TEST(StopTest, TheOneThatBeginsFirstWins) {
  const auto place = [](std::string_view text, const std::vector<std::string>& stops) {
    const auto found = find_stop(text, stops);
    return found
               ? std::pair<int, int>(static_cast<int>(found->begin), static_cast<int>(found->index))
               : std::pair<int, int>(-1, -1);
  };
  EXPECT_EQ(place("one\n\ntwo", {"two", "\n\n"}), std::pair(3, 1));
  EXPECT_EQ(place("one\n\ntwo", {"\n\nt", "\n\n"}), std::pair(3, 0));
  EXPECT_EQ(place("one", {"two", "ones"}), std::pair(-1, -1));
  EXPECT_EQ(place("one", {}), std::pair(-1, -1));
}

}  // namespace
}  // namespace headlens
