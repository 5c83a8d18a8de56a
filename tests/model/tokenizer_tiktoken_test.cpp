// headlens/tests: which tiktoken files are read, and what is said of the others.
#include "model/tokenizer_tiktoken.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/model/tokenizer.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

// The bytes, in order, and "hello" without its inner parts: base64 by RFC 4648's alphabet.
std::string base64(const std::string& bytes) {
  const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k) {
      bits = bits << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0);
    }
    for (size_t k = 0; k < 4; ++k) {
      out += i + k > bytes.size() ? '=' : alphabet[bits >> (18 - 6 * k) & 63];
    }
  }
  return out;
}

std::string small_file() {
  std::string file;
  for (int i = 0; i < 256; ++i) {
    file += base64(std::string(1, static_cast<char>(i))) + " " + std::to_string(i) + "\n";
  }
  return file + base64("he") + " 256\n" + base64("hello") + " 257\n";
}

std::string load_error(const TempDir& directory) {
  const std::string path = (directory.path() / "tokenizer.model").string();
  const std::string message =
      error_message<ConfigError>([&] { Tokenizer::load(directory.path()); });
  EXPECT_TRUE(message.starts_with("[" + path)) << message;
  return message.substr(std::min(message.size(), path.size() + 1));
}

TEST(TokenizerTiktoken, IsToldFromSentencePieceByItsFirstLine) {
  EXPECT_TRUE(looks_like_tiktoken("IQ== 0\nIg== 1\n"));
  EXPECT_TRUE(looks_like_tiktoken("IQ== 0"));
  EXPECT_FALSE(looks_like_tiktoken("\x0A\x0E\x0A\x05<unk>"));
  EXPECT_FALSE(looks_like_tiktoken("IQ= 0\n"));
  EXPECT_FALSE(looks_like_tiktoken("version https://git-lfs\n"));
  EXPECT_FALSE(looks_like_tiktoken(""));
}

TEST(TokenizerTiktoken, ReadsAFileThatMustBeLlama3s) {
  const TempDir directory;
  directory.write("tokenizer.model", small_file());
  directory.write("config.json", R"({"vocab_size": 514})");
  const Tokenizer tokenizer = Tokenizer::load(directory.path());
  // A word that is a token is that token though no merges lead to it; in another it stays unmade.
  EXPECT_EQ(tokenizer.encode("hello hello", true),
            (std::vector<int64_t>{258, 257, ' ', 256, 'l', 'l', 'o'}));
  EXPECT_EQ(tokenizer.token_to_id("<|eot_id|>"), 258 + 9);
  EXPECT_EQ(tokenizer.token_to_id("<|reserved_special_token_250|>"), 513);
}

TEST(TokenizerTiktoken, RefusesAFileThatMayBeAnything) {
  const TempDir directory;
  directory.write("tokenizer.model", small_file());
  const std::string expected =
      "] tiktoken file, expected Llama-3's (128000 tokens, or 256 fewer than the vocab_size of a "
      "config.json or params.json beside it), got 258 tokens and ";
  EXPECT_EQ(load_error(directory), expected + "no vocab_size");
  directory.write("params.json", R"({"vocab_size": -1})");
  EXPECT_EQ(load_error(directory), expected + "no vocab_size");
  directory.write("config.json", R"({"vocab_size": 512})");
  EXPECT_EQ(load_error(directory), expected + "vocab_size 512");
}

TEST(TokenizerTiktoken, NamesTheLineThatIsWrong) {
  const TempDir directory;
  const auto error_of = [&](const std::string& bytes) {
    directory.write("tokenizer.model", bytes);
    return load_error(directory);
  };
  EXPECT_EQ(error_of("IQ== 0\nnonsense\n"),
            ":2] line, expected a token in base64, a space and a rank, got string \"nonsense\"");
  EXPECT_EQ(error_of("IQ== 0\nIg== 2\n"),
            ":2] rank, expected 1 (ranks count the lines from 0), got 2");
  EXPECT_EQ(error_of("IQ== 0\n" + base64(std::string(1025, 'x')) + " 1\n"),
            ":2] token, expected at most 1024 bytes, got 1025");
  EXPECT_EQ(error_of(small_file() + "IQ== 258\n").substr(0, 45),
            "] tiktoken file, expected Llama-3's (128000 t");
  directory.write("config.json", R"({"vocab_size": 515})");
  EXPECT_EQ(error_of(small_file() + "IQ== 258\n"),
            "] rank 258, expected another token than rank 33, got the same");
  directory.write("config.json", R"({"vocab_size": 257})");
  EXPECT_EQ(error_of("IQ== 0\n"), "] tokens, expected one for each byte, got none for 0x00");
}

}  // namespace
}  // namespace headlens
