// headlens/tests: Oniguruma's regular expressions, cut as Oniguruma cuts.
#include "model/tokenizer_regex.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/error_message.h"
#include "core/json_fields.h"
#include "headlens/core/error.h"
#include "model/tokenizer_split.h"

namespace headlens {
namespace {

using testing::error_message;

std::vector<size_t> ends(const TokenRegex& regex, std::string_view text) {
  std::vector<Piece> pieces;
  regex.cut(text, pieces);
  std::vector<Span> spans;
  append_split(pieces, SplitBehavior::Isolated, 0, spans);
  std::vector<size_t> out;
  for (const Span& span : spans) out.push_back(span.end);
  return out;
}

TEST(TokenRegex, CutsAsTheReference) {
  const auto file = std::filesystem::path(HEADLENS_GOLDEN_DIR) / "tokenizers" / "regexes.json";
  const nlohmann::json golden = read_json_file(file);
  const std::string text = golden["text"];
  for (const auto& item : golden["patterns"]) {
    const std::string pattern = item["pattern"];
    EXPECT_EQ(ends(TokenRegex(pattern, "test"), text), item["ends"].get<std::vector<size_t>>())
        << pattern;
  }
}

TEST(TokenRegex, NamesWhatItCannotExpress) {
  const auto error = [](const char* pattern) {
    return error_message<ConfigError>([&] { TokenRegex(pattern, "here"); });
  };
  EXPECT_EQ(error("a\\G"), "[here] regular expression 'a\\G', '\\G' at byte 2 is not handled");
  EXPECT_EQ(error("(?~a)"), "[here] regular expression '(?~a)', '(?~' at byte 2 is not handled");
  EXPECT_EQ(error("[ab"),
            "[here] regular expression '[ab', an unclosed '[' at byte 3 is not handled");
  EXPECT_EQ(error("a)"), "[here] regular expression 'a)', expected '(' before byte 1");
  EXPECT_EQ(error("\\xE2"),
            "[here] regular expression '\\xE2', this hexadecimal escape at byte 1 is not handled");
  EXPECT_TRUE(error("\\p{Nonsense}").starts_with("[here] regular expression, expected one that"));
  EXPECT_EQ(error("(*CRLF)a"),
            "[here] regular expression '(*CRLF)a', '(*' at byte 0 is not handled");
  EXPECT_EQ(error(std::string(8193, 'a').c_str()),
            "[here] regular expression, expected at most 8192 bytes, got 8193");
  EXPECT_TRUE(error(std::string(500, '[').c_str()).find("nesting this deep") != std::string::npos);
}

TEST(TokenRegex, LiteralsAreNotPatterns) {
  const std::string text = "a.b*c\\d日本[x]";
  for (const char* literal : {".", "b*", "\\d", "本[", "a.b*c\\d日本[x]"}) {
    std::vector<Piece> pieces;
    TokenRegex::from_literal(literal, "test").cut(text, pieces);
    size_t matches = 0;
    for (const Piece& piece : pieces) {
      if (!piece.match) continue;
      ++matches;
      EXPECT_EQ(text.substr(piece.begin, piece.end - piece.begin), literal);
    }
    EXPECT_EQ(matches, 1u) << literal;
  }
}

TEST(TokenRegex, LongRunsNeitherFailNorOverflow) {
  // A pattern that the compiled matcher's small stack cannot hold on such a text.
  const TokenRegex nested("(?:a|(?:ab?)+c)+", "test");
  const std::string text(1 << 20, 'a');
  EXPECT_EQ(ends(nested, text), std::vector<size_t>{text.size()});
  const TokenRegex spaces(R"(\s+(?!\S)|\s+)", "test");
  const std::string run(1 << 20, ' ');
  EXPECT_EQ(ends(spaces, run + "x"),
            (std::vector<size_t>{run.size() - 1, run.size(), run.size() + 1}));
}

}  // namespace
}  // namespace headlens
