// headlens/tests: the world's tokenizer knows all that its tasks can say.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/tasks/task.h"
#include "headlens/tasks/world.h"
#include "tokenizers.h"

namespace headlens {
namespace {

TEST(WorldVocabulary, IsDistinctAndSmall) {
  const auto tokens = world_vocabulary();
  EXPECT_EQ(std::set<std::string>(tokens.begin(), tokens.end()).size(), tokens.size());
  EXPECT_EQ(tokens.size(), 605u);
  EXPECT_EQ(tokens[0], "<unk>");
  EXPECT_EQ(tokens[1], "<eos>");
}

TEST(WorldTokenizer, KnowsEveryWordOfItsTasks) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  EXPECT_EQ(tokenizer.vocab_size(), std::ssize(world_vocabulary()));
  for (const char* spec : {"kv:pairs=100,n=40", "mcq:options=8,n=40", "world-facts", "world-mcq"}) {
    for (const TokenizedExample& example : tokenize(make_task(spec, 1), tokenizer)) {
      for (const int64_t id : example.prompt_ids) EXPECT_GT(id, 1) << example.prompt;
      for (const auto& choice : example.choice_ids) {
        ASSERT_EQ(choice.size(), 1u);
        EXPECT_GT(choice[0], 1);
      }
    }
  }
}

TEST(WorldTokenizer, SplitsAsItsPatternSays) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  const auto id = [&](const char* token) { return *tokenizer.token_to_id(token); };
  EXPECT_EQ(tokenizer.encode("What is  the?\n\nA. 12 A 'no':12\nkey:\n."),
            (std::vector<int64_t>{id("What"), id("is"), id("the"), id("?"), id("\n"), id("\n"),
                                  id("A."), id("12"), id("A"), id("'"), 0, id("'"), id(":12"),
                                  id("\n"), id("key"), id(":"), id("\n"), id(".")}));
}

TEST(WorldTokenizer, WritesItsConfig) {
  const testing::TempDir dir;
  write_world_tokenizer(dir.path() / "new" / "folder");
  std::ifstream in(dir.path() / "new" / "folder" / "tokenizer_config.json");
  const auto config = nlohmann::json::parse(in);
  EXPECT_EQ(config.at("eos_token"), "<eos>");
  EXPECT_EQ(config.at("unk_token"), "<unk>");
  const auto file = dir.write("file", "");
  const std::string message =
      testing::error_message<TaskError>([&] { write_world_tokenizer(file / "x"); });
  EXPECT_EQ(
      message.find("[world] " + (file / "x").string() + ": folder, expected to be made, got "), 0u);
}

}  // namespace
}  // namespace headlens
