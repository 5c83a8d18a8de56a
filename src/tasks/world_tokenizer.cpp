// headlens/tasks: the made-up world's tokenizer, one token a word.
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/whole_file.h"
#include "headlens/tasks/world.h"
#include "tasks/prompts.h"
#include "tasks/word_list.h"

namespace headlens {
namespace {

using nlohmann::ordered_json;

constexpr const char* kUnknown = "<unk>";
constexpr const char* kEnd = "<eos>";

ordered_json special_token(int64_t id, const char* content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

ordered_json tokenizer_json() {
  ordered_json vocab = ordered_json::object();
  for (const std::string& token : world_vocabulary()) vocab[token] = vocab.size();
  // Lines, words with the sign that marks them (":17", "A."), and single signs; spaces vanish.
  const ordered_json split = {{"type", "Split"},
                              {"pattern", {{"Regex", R"(\n|:?\w+\.?|[^\w\s])"}}},
                              {"behavior", "Removed"},
                              {"invert", true}};
  const ordered_json model = {{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", kUnknown}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", {special_token(0, kUnknown), special_token(1, kEnd)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", split},
          {"post_processor", nullptr},
          {"decoder", nullptr},
          {"model", model}};
}

}  // namespace

std::vector<std::string> world_vocabulary() {
  const World& world = made_up_world();
  std::vector<std::string> tokens = {
      kUnknown,     kEnd,  "\n",    ":",   "'",  ".",  "?",     "Memorize", "the",  "following",
      "dictionary", "The", "value", "key", "of", "is", "Which", "option",   "What", "Answer"};
  for (int64_t i = 0; i < kMaxLetters; ++i) {
    tokens.push_back(letter(i));
    tokens.push_back(letter(i) + ".");
  }
  for (int64_t i = 0; i < kDictionaryValues; ++i) {
    tokens.push_back(std::to_string(i));
    tokens.push_back(":" + std::to_string(i));
  }
  for (const WorldRelation& relation : world.relations) {
    tokens.push_back(relation.name);
    tokens.insert(tokens.end(), relation.values.begin(), relation.values.end());
  }
  tokens.insert(tokens.end(), world.entities.begin(), world.entities.end());
  for (const std::string_view word : word_list()) tokens.emplace_back(word);
  return tokens;
}

void write_world_tokenizer(const std::filesystem::path& dir) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  HEADLENS_CHECK(TaskError, !error, "[world] {}: folder, expected to be made, got {}", dir.string(),
                 error.message());
  const ordered_json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                               {"unk_token", kUnknown},
                               {"eos_token", kEnd},
                               {"clean_up_tokenization_spaces", false}};
  write_whole_file(dir / "tokenizer.json", tokenizer_json().dump(1) + "\n");
  write_whole_file(dir / "tokenizer_config.json", config.dump(1) + "\n");
}

}  // namespace headlens
