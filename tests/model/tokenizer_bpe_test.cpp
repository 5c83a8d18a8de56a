// headlens/tests: byte-pair encoding against the plain algorithm.
#include "model/tokenizer_bpe.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <map>
#include <random>

namespace headlens {
namespace {

using Ids = std::vector<int64_t>;

// Random merges over a few letters: many overlap, so that their order matters.
struct RandomBpe {
  std::map<std::string, int64_t> vocab;
  std::vector<std::pair<std::string, std::string>> merges;

  // `apart`: no merge makes a token that has SentencePiece's space mark behind another character.
  explicit RandomBpe(unsigned seed, const std::vector<std::string>& letters = {"a", "b", "c", "é"},
                     bool apart = false) {
    std::mt19937 random(seed);
    std::vector<std::string> tokens;
    const auto add = [&](const std::string& token) {
      if (vocab.emplace(token, vocab.size()).second) tokens.push_back(token);
    };
    for (const std::string& letter : letters) add(letter);
    while (merges.size() < 60) {
      const std::string left = tokens[random() % tokens.size()];
      const std::string right = tokens[random() % tokens.size()];
      if (apart && has_inner_mark(left + right)) continue;
      merges.emplace_back(left, right);
      add(left + right);
    }
  }

  std::unique_ptr<const WordModel> model() const {
    nlohmann::json spec = {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}};
    return read_word_model(JsonFields(spec, "test"), "test");
  }

  // The definition: merge the leftmost pair of the lowest rank until there is none.
  Ids encode(const std::vector<std::string>& letters) const {
    std::map<std::pair<std::string, std::string>, size_t> ranks;
    for (size_t i = 0; i < merges.size(); ++i) ranks[merges[i]] = i;  // the last of equals counts
    std::vector<std::string> parts = letters;
    while (true) {
      size_t best = merges.size(), at = 0;
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto it = ranks.find({parts[i], parts[i + 1]});
        if (it != ranks.end() && it->second < best) {
          best = it->second;
          at = i;
        }
      }
      if (best == merges.size()) break;
      parts[at] += parts[at + 1];
      parts.erase(parts.begin() + static_cast<ptrdiff_t>(at) + 1);
    }
    Ids ids;
    for (const std::string& part : parts) ids.push_back(vocab.at(part));
    return ids;
  }
};

// Words up to 48 symbols are merged by scanning, longer ones by a heap.
TEST(BpeModel, MergesAsTheDefinitionAtEveryLength) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    const RandomBpe reference(seed);
    const auto model = reference.model();
    std::mt19937 random(seed);
    for (const size_t length : {1, 2, 3, 7, 20, 47, 48, 49, 50, 130, 300}) {
      std::vector<std::string> letters;
      std::string word;
      for (size_t i = 0; i < length; ++i) {
        letters.push_back(std::vector<std::string>{"a", "b", "c", "é"}[random() % 4]);
        word += letters.back();
      }
      const Ids wanted = reference.encode(letters);
      for (const char* pass : {"computed", "cached"}) {
        Ids ids;
        model->encode(word, ids);
        EXPECT_EQ(ids, wanted) << pass << ", seed " << seed << ", word " << word;
      }
    }
  }
}

// Texts that no pre-tokenizer cut are cut at space marks where no merge reaches over one, and must
// not be where one does.
TEST(BpeModel, CuttingAtSpaceMarksChangesNothing) {
  const std::vector<std::string> letters = {"a", "▁", "é"};
  for (unsigned seed = 1; seed <= 40; ++seed) {
    const RandomBpe reference(seed, letters, /*apart=*/seed % 2 == 0);
    const auto model = reference.model();
    std::mt19937 random(seed);
    for (const size_t length : {1, 2, 5, 12, 60, 200}) {
      std::vector<std::string> text;
      for (size_t i = 0; i < length; ++i) text.push_back(letters[random() % letters.size()]);
      std::string joined;
      for (const std::string& letter : text) joined += letter;
      Ids ids;
      model->encode(joined, ids);
      EXPECT_EQ(ids, reference.encode(text)) << "seed " << seed << ", text " << joined;
    }
  }
}

TEST(BpeModel, ALongWordTakesNoQuadraticTime) {
  const auto model = RandomBpe(3).model();
  const std::string word(2'000'000, 'a');  // quadratic time would be hours
  Ids ids;
  model->encode(word, ids);
  size_t letters = 0;
  for (const int64_t id : ids) letters += model->vocab().token(id)->size();
  EXPECT_EQ(letters, word.size());
}

TEST(WordCache, ForgetsRatherThanGrows) {
  WordCache cache;
  Ids ids;
  for (int64_t i = 0; i < 300'000; ++i) cache.insert(std::to_string(i), &i, 1);
  size_t known = 0;
  for (int64_t i = 0; i < 300'000; ++i) {
    ids.clear();
    if (!cache.find(std::to_string(i), ids)) continue;
    ++known;
    ASSERT_EQ(ids, Ids{i});
  }
  EXPECT_GT(known, 0u);
  EXPECT_LE(known, WordCache::kMaxBytes / sizeof(std::pair<std::string, Ids>));
}

// Texts of a stranger may be made of long words whose every byte is a token. The heap itself is
// asked, so that the cache's own count is held to something.
TEST(WordCache, TakesNoMoreThanItsLimitOfLongWords) {
  WordCache cache;
  const Ids many(255, 7);
  const size_t before = mallinfo2().uordblks;
  size_t most = 0;
  for (int64_t i = 0; i < 200'000; ++i) {
    // Few ids first: most of what a word takes is then the table's.
    const size_t count = i < 100'000 ? 1 : many.size();
    cache.insert(fmt::format("{:0{}}", i, count == 1 ? 8 : 255), many.data(), count);
    ASSERT_LE(cache.bytes(), WordCache::kMaxBytes);
    most = std::max(most, cache.bytes());
    if (i % 1000 == 0) {
      ASSERT_LE(mallinfo2().uordblks, before + WordCache::kMaxBytes) << i;
    }
  }
  EXPECT_GT(most, WordCache::kMaxBytes / 2);
  Ids last;
  EXPECT_TRUE(cache.find(fmt::format("{:0255}", 199'999), last));
  EXPECT_EQ(last, many);
}

TEST(MergeTable, FindsEveryPairAndNoOther) {
  std::vector<std::pair<uint64_t, Merge>> merges;
  for (uint32_t i = 0; i < 1000; ++i) {
    merges.emplace_back(MergeTable::key(i * 31, i * 17), Merge{i, i + 5});
  }
  const MergeTable table(merges);
  for (uint32_t i = 0; i < 1000; ++i) {
    const Merge* merge = table.find(i * 31, i * 17);
    ASSERT_NE(merge, nullptr);
    EXPECT_EQ(merge->rank, i);
    EXPECT_EQ(merge->id, i + 5);
    EXPECT_EQ(table.find(i * 31 + 1, i * 17), nullptr);
  }
}

}  // namespace
}  // namespace headlens
