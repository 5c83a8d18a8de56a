// headlens/tests: the tokenizer against small goldens, and what it says to bad input.
#include "headlens/model/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "core/error_message.h"
#include "core/json_fields.h"
#include "headlens/core/error.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using nlohmann::json;
using testing::error_message;
using testing::TempDir;
using Ids = std::vector<int64_t>;

const std::filesystem::path kGoldens = std::filesystem::path(HEADLENS_GOLDEN_DIR) / "tokenizers";

Tokenizer golden_tokenizer(const std::string& name) {
  return Tokenizer::load(kGoldens / (name + ".json"));
}

const json& expected() {
  static const json value = read_json_file(kGoldens / "expected.json");
  return value;
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& item : expected()["cases"].items()) names.push_back(item.key());
  return names;
}

// One tokenizer, with one trait, that Hugging Face's `tokenizers` has run over a few texts.
class TokenizerGolden : public ::testing::TestWithParam<std::string> {
 protected:
  const json& golden() const { return expected()["cases"][GetParam()]; }
  std::vector<std::string> texts() const { return expected()["texts"]; }
  std::vector<Ids> special_ids() const {
    return golden().contains("special_ids") ? golden()["special_ids"] : golden()["ids"];
  }
  const Tokenizer tokenizer = golden_tokenizer(GetParam());
};

TEST_P(TokenizerGolden, EncodesAsTheReference) {
  const std::vector<Ids> ids = golden()["ids"];
  for (size_t i = 0; i < texts().size(); ++i) {
    EXPECT_EQ(tokenizer.encode(texts()[i]), ids[i]) << texts()[i];
    EXPECT_EQ(tokenizer.encode(texts()[i]), ids[i]) << "from the cache: " << texts()[i];
    EXPECT_EQ(tokenizer.encode(texts()[i], true), special_ids()[i]) << texts()[i];
  }
}

TEST_P(TokenizerGolden, DecodesAsTheReference) {
  if (!golden().contains("decoded")) return;  // its decoder is another golden's
  const std::vector<std::string> decoded = golden()["decoded"];
  const auto skipped =
      golden().contains("skipped") ? golden()["skipped"].get<std::vector<std::string>>() : decoded;
  std::vector<Ids> lists = special_ids();
  lists.push_back(golden()["scattered"]);
  ASSERT_EQ(lists.size(), decoded.size());
  for (size_t i = 0; i < lists.size(); ++i) {
    EXPECT_EQ(tokenizer.decode(lists[i]), decoded[i]);
    EXPECT_EQ(tokenizer.decode(lists[i], /*skip_special_tokens=*/true), skipped[i]);
  }
}

TEST_P(TokenizerGolden, KnowsEveryTokenBothWays) {
  EXPECT_EQ(tokenizer.vocab_size(), golden()["vocab_size"].get<int64_t>());
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    EXPECT_EQ(tokenizer.token_to_id(tokenizer.id_to_token(id)), id);
  }
  EXPECT_FALSE(tokenizer.token_to_id("no such token").has_value());
}

INSTANTIATE_TEST_SUITE_P(AllTraits, TokenizerGolden, ::testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

TEST(Tokenizer, EveryGoldenFileIsTested) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldens)) {
    files += entry.path().extension() == ".json" ? 1 : 0;
  }
  EXPECT_EQ(files, golden_names().size() + 2);  // expected.json and regexes.json
}

TEST(Tokenizer, ZooVocabularyKeepsLineEndsAndDropsSpaces) {
  const Tokenizer zoo = golden_tokenizer("zoo");
  const auto id = [&](const char* token) { return *zoo.token_to_id(token); };
  EXPECT_EQ(zoo.encode("key: value\n A  ?"),
            (Ids{id("key"), id(":"), id("value"), id("\n"), id("A"), id("<unk>")}));
  EXPECT_EQ(zoo.decode(Ids{id("key"), id(":"), id("A")}), "key : A");
}

TEST(Tokenizer, ByteLevelTextComesBackWhole) {
  const Tokenizer gpt2 = golden_tokenizer("gpt2");
  std::string text = "naïve 日本 😀\r\n\t  'll ";
  for (int c = 1; c < 0x80; ++c) text += static_cast<char>(c);
  EXPECT_EQ(gpt2.decode(gpt2.encode(text)), text);
}

TEST(Tokenizer, CutCharactersDecodeToReplacementCharacters) {
  const Tokenizer gpt2 = golden_tokenizer("gpt2");
  Ids ids = gpt2.encode("😀");
  ASSERT_EQ(ids.size(), 4u);
  ids.pop_back();  // one ill-formed piece of three bytes: one U+FFFD
  ids.push_back(*gpt2.token_to_id("a"));
  EXPECT_EQ(gpt2.decode(ids), "\uFFFDa");
}

TEST(Tokenizer, IdsOfNoVocabularyGiveNoText) {
  const Tokenizer gpt2 = golden_tokenizer("gpt2");
  const int64_t a = *gpt2.token_to_id("a");
  EXPECT_EQ(gpt2.decode(Ids{a, 100000, -1, a}), "aa");
  EXPECT_EQ(error_message<UsageError>([&] { gpt2.id_to_token(-1); }),
            "[Tokenizer::id_to_token] id, expected one of the vocabulary, got -1");
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const Tokenizer gpt2 = golden_tokenizer("gpt2");
  for (const char* bad :
       {"ab\xFF", "ab\xC3", "ab\xED\xA0\x80", "ab\xC0\x80", "ab\xF5\x80\x80\x80"}) {
    const std::string message = error_message<UsageError>([&] { gpt2.encode(bad); });
    EXPECT_TRUE(message.starts_with("[Tokenizer::encode] text, expected UTF-8, got byte 0x"))
        << message;
    EXPECT_TRUE(message.ends_with(" at 2")) << message;
  }
}

TEST(Tokenizer, CopiesAndThreadsShareOneBody) {
  const Tokenizer tokenizer = golden_tokenizer("llama3");
  std::string text;
  for (int i = 0; i < 3000; ++i) text += " word" + std::to_string(i * 7919) + "'ll";
  const Ids wanted = golden_tokenizer("llama3").encode(text);
  std::vector<Ids> got(4);
  std::vector<std::thread> threads;
  for (Ids& ids : got) {
    threads.emplace_back([&ids, &text, copy = tokenizer] { ids = copy.encode(text); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : got) EXPECT_EQ(ids, wanted);
}

// A tokenizer.json with one part replaced, and what load() says to it.
std::string load_error(const json& change) {
  json file = {{"version", "1.0"},
               {"model", {{"type", "WordLevel"}, {"vocab", {{"a", 0}}}, {"unk_token", "a"}}}};
  file.merge_patch(change);
  const TempDir directory;
  directory.write("tokenizer.json", file.dump());
  const std::string message =
      error_message<ConfigError>([&] { Tokenizer::load(directory.path()); });
  const std::string path = (directory.path() / "tokenizer.json").string();
  EXPECT_TRUE(message.starts_with("[" + path)) << message;
  return message.substr(std::min(message.size(), path.size() + 1));
}

TEST(Tokenizer, NamesTheTypeThatIsNotHandled) {
  EXPECT_EQ(load_error({{"model", {{"type", "Unigram"}}}}),
            ": model] type, expected BPE or WordLevel, got \"Unigram\", which is not handled");
  EXPECT_EQ(load_error({{"normalizer", {{"type", "Precompiled"}}}}).substr(0, 40),
            ": normalizer] type, expected one of NFC,");
  const json nested = {{"type", "Sequence"},
                       {"pretokenizers", {{{"type", "Whitespace"}}, {{"type", "UnicodeScripts"}}}}};
  const std::string message = load_error({{"pre_tokenizer", nested}});
  EXPECT_TRUE(message.starts_with(": pre_tokenizer[1]] type, expected one of")) << message;
  EXPECT_TRUE(message.ends_with("got \"UnicodeScripts\", which is not handled")) << message;
  EXPECT_NE(load_error({{"decoder", {{"type", "CTC"}}}}).find("got \"CTC\""), std::string::npos);
  EXPECT_NE(load_error({{"post_processor", {{"type", "Other"}}}}).find("got \"Other\""),
            std::string::npos);
}

TEST(Tokenizer, NamesTheKeyThatIsNotHandled) {
  EXPECT_EQ(load_error({{"extra", 1}}), "] keys, expected only known ones, got also extra");
  EXPECT_EQ(load_error({{"model", {{"extra", 1}}}}),
            "] keys, expected only known ones, got also model.extra");
  EXPECT_EQ(load_error({{"decoder", {{"type", "Fuse"}, {"more", 2}}}}),
            ": decoder] keys, expected only known ones, got also more");
  EXPECT_EQ(load_error({{"version", "2.0"}}), "] key 'version', expected 1.0, got 2.0");
}

TEST(Tokenizer, NamesWhatIsWrongWithAModel) {
  const json bpe = {{"type", "BPE"}, {"vocab", {{"a", 0}, {"b", 1}}}, {"unk_token", nullptr}};
  const auto model_error = [&](const json& change) {
    json model = bpe;
    model.merge_patch(change);
    return load_error({{"model", model}});
  };
  EXPECT_EQ(model_error(json::object()), ": model] key 'merges', expected an array, got nothing");
  EXPECT_EQ(model_error({{"merges", {"a b c"}}}),
            ": model] merges[0], expected \"a b\" or [\"a\", \"b\"], got string \"a b c\"");
  EXPECT_EQ(model_error({{"merges", {"a b"}}}),
            ": model] merges[0], expected tokens of the vocabulary, got \"ab\"");
  EXPECT_EQ(model_error({{"merges", json::array()}, {"dropout", 0.5}}),
            ": model] key 'dropout', expected none (ids would be random), got 0.5");
  EXPECT_EQ(model_error({{"vocab", {{"a", -1}}}, {"merges", json::array()}}),
            ": model] vocab, token \"a\", expected an id from 0 to 4294967295, got integer -1");
}

TEST(Tokenizer, NamesWhatIsWrongWithASplit) {
  const json split = {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}};
  EXPECT_EQ(load_error({{"pre_tokenizer", split}}),
            ": pre_tokenizer (Split)] regular expression '(a', expected ')'");
  const json behavior = {
      {"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Sideways"}};
  EXPECT_TRUE(load_error({{"pre_tokenizer", behavior}}).ends_with("got \"Sideways\""));
}

TEST(Tokenizer, WordLevelWithoutItsUnknownTokenSaysWhichWord) {
  const TempDir directory;
  const json model = {{"type", "WordLevel"}, {"vocab", {{"a", 0}}}, {"unk_token", "?"}};
  directory.write("tokenizer.json", json{{"model", model}}.dump());
  const Tokenizer tokenizer = Tokenizer::load(directory.path());
  EXPECT_EQ(tokenizer.encode("a"), Ids{0});
  const std::string message = error_message<ConfigError>([&] { tokenizer.encode("b"); });
  EXPECT_NE(message.find("word \"b\", expected it or unk_token \"?\""), std::string::npos)
      << message;
}

TEST(Tokenizer, SaysThatAFileIsMissing) {
  const TempDir directory;
  const std::string path = (directory.path() / "tokenizer.json").string();
  EXPECT_EQ(error_message<ConfigError>([&] { Tokenizer::load(directory.path()); }),
            "[" + path + "] file, expected a readable one, got none");
}

}  // namespace
}  // namespace headlens
