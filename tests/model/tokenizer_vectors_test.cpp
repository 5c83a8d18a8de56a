// headlens/tests: published vocabularies against ids that Hugging Face's tokenizers gave.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "core/json_fields.h"
#include "headlens/model/tokenizer.h"

namespace headlens {
namespace {

using Ids = std::vector<int64_t>;

std::filesystem::path data_dir() {
  const char* dir = std::getenv("HEADLENS_DATA");
  return dir == nullptr ? "" : dir;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_TRUE(file.good()) << path;
  return text.str();
}

std::vector<std::string> split_at(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != std::string::npos;) {
    parts.push_back(text.substr(begin, end - begin));
    begin = end + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

struct Vectors {
  std::string vocabulary;  // under tokenizers/
  std::string name;        // of the vectors, under llama-cpp-vocab-vectors/
  std::set<size_t> other;  // items whose ids another vocabulary has
};

class TokenizerVectors : public ::testing::TestWithParam<Vectors> {
 protected:
  void SetUp() override {
    if (data_dir().empty()) GTEST_SKIP() << "HEADLENS_DATA is not set";
  }
  std::filesystem::path file(const std::string& extension) const {
    const std::string name = "ggml-vocab-" + GetParam().name + ".gguf." + extension;
    return data_dir() / "llama-cpp-vocab-vectors" / name;
  }
};

TEST_P(TokenizerVectors, GivesThePublishedIds) {
  constexpr size_t kItems = 46;
  const auto tokenizer = Tokenizer::load(data_dir() / "tokenizers" / GetParam().vocabulary);
  const auto texts = split_at(read_file(file("inp")), "\n__ggml_vocab_test__\n");
  const auto lines = split_at(read_file(file("out")), "\n");
  ASSERT_GE(texts.size(), kItems);
  ASSERT_GE(lines.size(), kItems);
  for (size_t i = 0; i < kItems; ++i) {
    if (GetParam().other.contains(i)) continue;
    std::istringstream line(lines[i]);
    const Ids wanted{std::istream_iterator<int64_t>(line), {}};
    EXPECT_EQ(tokenizer.encode(texts[i]), wanted) << "item " << i << ": " << texts[i];
  }
}

TEST_P(TokenizerVectors, ByteLevelTextsComeBackWhole) {
  const auto tokenizer = Tokenizer::load(data_dir() / "tokenizers" / GetParam().vocabulary);
  for (const auto& text : split_at(read_file(file("inp")), "\n__ggml_vocab_test__\n")) {
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Published, TokenizerVectors,
    ::testing::Values(Vectors{"gpt-neox-20b/20B_tokenizer.json", "mpt", {}},
                      Vectors{"gpt2/gpt2.json", "gpt-2", {}},
                      // stands in for Llama-3, whose ids from 100256 on it does not have
                      Vectors{
                          "olmo2-dolma2/allenai_dolma2.json", "llama-bpe", {20, 22, 32, 43, 45}}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::erase(name, '-');
      return name;
    });

TEST(TinyLlama3Vectors, GivesThePublishedIds) {
  if (data_dir().empty()) GTEST_SKIP() << "HEADLENS_DATA is not set";
  const auto directory = data_dir() / "tokenizers" / "torchtune-tiny-llama3";
  const auto tokenizer = Tokenizer::load(directory);
  const auto expected = read_json_file(directory / "expected_ids.json");
  const std::vector<std::string> texts = expected["texts"];
  const std::vector<Ids> ids = expected["ids_without_special_tokens"];
  ASSERT_FALSE(texts.empty());
  for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(tokenizer.encode(texts[i]), ids.at(i));
}

}  // namespace
}  // namespace headlens
