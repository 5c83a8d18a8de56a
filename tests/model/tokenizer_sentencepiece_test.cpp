// headlens/tests: `tokenizer.model` files against the libraries they come from.
#include "headlens/model/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

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

const std::filesystem::path kModels =
    std::filesystem::path(HEADLENS_GOLDEN_DIR) / "tokenizers" / "models";

const json& expected() {
  static const json value = read_json_file(kModels / "expected.json");
  return value;
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& item : expected()["cases"].items()) names.push_back(item.key());
  return names;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A model that Python's sentencepiece or tiktoken has run over a few texts.
class TokenizerModelFile : public ::testing::TestWithParam<std::string> {
 protected:
  const json& golden() const { return expected()["cases"][GetParam()]; }
  std::vector<std::string> texts() const { return expected()["texts"]; }
  const Tokenizer tokenizer = Tokenizer::load(kModels / GetParam());
  const std::vector<Ids> ids = golden()["ids"];
};

TEST_P(TokenizerModelFile, EncodesAsItsLibrary) {
  for (size_t i = 0; i < texts().size(); ++i) {
    EXPECT_EQ(tokenizer.encode(texts()[i]), ids[i]) << texts()[i];
    EXPECT_EQ(tokenizer.encode(texts()[i]), ids[i]) << "from the cache: " << texts()[i];
    Ids with_start = golden()["start"];
    with_start.insert(with_start.end(), ids[i].begin(), ids[i].end());
    EXPECT_EQ(tokenizer.encode(texts()[i], true), with_start) << texts()[i];
  }
}

TEST_P(TokenizerModelFile, DecodesAsItsLibrary) {
  const std::vector<std::string> decoded = golden()["decoded"], skipped = golden()["skipped"];
  for (size_t i = 0; i < texts().size(); ++i) {
    EXPECT_EQ(tokenizer.decode(ids[i]), decoded[i]);
    EXPECT_EQ(tokenizer.decode(ids[i], /*skip_special_tokens=*/true), skipped[i]);
  }
}

TEST_P(TokenizerModelFile, KnowsEveryTokenBothWays) {
  ASSERT_EQ(tokenizer.vocab_size(), golden()["vocab_size"].get<int64_t>());
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string token = tokenizer.id_to_token(id);
    EXPECT_EQ(tokenizer.token_to_id(token), id);
    if (!golden().contains("pieces")) continue;  // a tiktoken file spells none
    EXPECT_EQ(token, golden()["pieces"][static_cast<size_t>(id)].get<std::string>());
  }
  const json special = golden().value("special", json::object());
  for (const auto& [token, id] : special.items()) {
    EXPECT_EQ(tokenizer.token_to_id(token), id.get<int64_t>());
  }
  EXPECT_FALSE(tokenizer.token_to_id("no such token").has_value());
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerModelFile, ::testing::ValuesIn(model_names()),
                         [](const auto& info) { return info.param; });

// Texts are cut at spaces, so that words can be remembered, wherever that changes no id. A model
// that cannot be cut ("phrases") must not be; one that can must give what it gives uncut.
TEST(TokenizerSentencePiece, CuttingAtSpacesChangesNothing) {
  const std::vector<std::string> letters = {" ", " ", "▁", "e", "t", "h", "r", "\n", "é", "😀"};
  for (const char* name : {"llama", "gemma", "phrases", "unknowns"}) {
    const Tokenizer cutting = Tokenizer::load(kModels / name);
    // A piece with a mark inside, though unused, forbids cutting.
    const TempDir directory;
    std::string bytes = read_file(kModels / name / "tokenizer.model");
    const std::string piece = "zz▁zz";
    bytes += "\x0A\x0B\x0A\x07" + piece + "\x18\x05";
    ASSERT_EQ(piece.size(), 7u);
    directory.write("tokenizer.model", bytes);
    const Tokenizer whole = Tokenizer::load(directory.path());
    std::mt19937 random(7);
    for (int i = 0; i < 300; ++i) {
      std::string text;
      for (int k = 0; k < 30; ++k) text += letters[random() % letters.size()];
      EXPECT_EQ(cutting.encode(text), whole.encode(text)) << name << ": " << text;
    }
  }
}

TEST(TokenizerSentencePiece, ATokenizerJsonComesFirst) {
  const TempDir directory;
  directory.write("tokenizer.model", read_file(kModels / "llama" / "tokenizer.model"));
  EXPECT_EQ(Tokenizer::load(directory.path()).vocab_size(), 560);
  directory.write("tokenizer.json", R"({"model": {"type": "WordLevel", "vocab": {"a": 0},
                                                  "unk_token": "a"}})");
  EXPECT_EQ(Tokenizer::load(directory.path()).vocab_size(), 1);
  EXPECT_EQ(Tokenizer::load(directory.path() / "tokenizer.model").vocab_size(), 560);
}

TEST(TokenizerSentencePiece, FilesBesideItAddTokens) {
  const TempDir directory;
  directory.write("tokenizer.model", read_file(kModels / "llama" / "tokenizer.model"));
  directory.write("added_tokens.json", R"({"<|user|>": 560})");
  directory.write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": true,
      "added_tokens_decoder": {"561": {"content": "<|end|>", "rstrip": true, "special": true}}})");
  const Tokenizer tokenizer = Tokenizer::load(directory.path());
  EXPECT_EQ(tokenizer.vocab_size(), 562);
  const int64_t a = *tokenizer.token_to_id("▁a");
  EXPECT_EQ(tokenizer.encode("<|user|>a<|end|>  a", true), (Ids{560, a, 561, a, 2}));
  EXPECT_EQ(tokenizer.decode(Ids{560, a, 561, a}, true), "<|user|> a a");
  directory.write("added_tokens.json", R"({"<|user|>": 570})");
  const std::string path = (directory.path() / "tokenizer.model").string();
  EXPECT_EQ(error_message<ConfigError>([&] { Tokenizer::load(directory.path()); }),
            "[" + path + "] added token \"<|end|>\", expected id 560, got 561");
}

std::string load_error(const TempDir& directory, const std::string& bytes) {
  directory.write("tokenizer.model", bytes);
  const std::string path = (directory.path() / "tokenizer.model").string();
  const std::string message =
      error_message<ConfigError>([&] { Tokenizer::load(directory.path()); });
  EXPECT_TRUE(message.starts_with("[" + path)) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  return message.substr(std::min(message.size(), path.size() + 1));
}

TEST(TokenizerSentencePiece, SaysWhatIsWrongWithAFile) {
  const TempDir directory;
  const std::string good = read_file(kModels / "llama" / "tokenizer.model");
  EXPECT_EQ(load_error(directory, ""), "] SentencePiece model, expected pieces, got none");
  EXPECT_EQ(load_error(directory, good.substr(0, 1000)),
            "] SentencePiece model, expected a whole one, got one that is cut short or no such "
            "model");
  EXPECT_EQ(load_error(directory, "version https://git-lfs.github.com/spec/v1\n").substr(0, 40),
            "] SentencePiece model, expected a whole ");
  EXPECT_EQ(load_error(directory, good + "\x0A\x08\x0A\x06<0x41>"),
            "] SentencePiece model, expected pieces all different, got some twice");
  EXPECT_EQ(load_error(directory, good + "\x12\x03\xC0\x01\x01"),
            "] treat_whitespace_as_suffix, expected false, got true, which is not handled");
}

// The unigram model rewrites texts by a double array, which its library walks without looking.
TEST(TokenizerSentencePiece, NoChangedByteCrashes) {
  const std::string good = read_file(kModels / "unigram" / "tokenizer.model");
  const TempDir directory;
  size_t refused = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bytes = good;
    bytes[i] = static_cast<char>(0xF7);
    directory.write("tokenizer.model", bytes);
    try {
      Tokenizer::load(directory.path()).encode("the old ﬁ clock\u3000 é");
    } catch (const ConfigError& error) {
      ++refused;
      EXPECT_TRUE(std::string(error.what()).starts_with("[")) << error.what();
    }
  }
  EXPECT_GT(refused, 100u);
}

}  // namespace
}  // namespace headlens
