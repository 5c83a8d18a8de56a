// headlens/tests: string methods against what Python 3.11 answers.
#include "tasks/python_text.h"

#include <gtest/gtest.h>

namespace headlens {
namespace {

TEST(PythonText, Strips) {
  EXPECT_EQ(python_strip(" \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f a b\u00a0\u2003\u3000\u0085"), "a b");
  EXPECT_EQ(python_strip("\u200b a"), "\u200b a");  // a zero-width space is none
  EXPECT_EQ(python_strip(" \u2028 "), "");
  EXPECT_EQ(python_rstrip_end(" a \u202f"), 2u);
  EXPECT_EQ(python_rstrip_end(""), 0u);
}

TEST(PythonText, Capitalizes) {
  EXPECT_EQ(python_capitalize("hE IS McDonald"), "He is mcdonald");
  EXPECT_EQ(python_capitalize(""), "");
  EXPECT_EQ(python_capitalize("1ST OF"), "1st of");
  EXPECT_EQ(python_capitalize("éCOLE"), "École");
  EXPECT_EQ(python_capitalize("ǆA"), "ǅa");                  // title case is not upper case
  EXPECT_EQ(python_capitalize("İİ"), "İi\u0307");            // two letters in lower case
  EXPECT_EQ(python_capitalize("ΟΔΟΣ ΣΑΣ Σ"), "Οδος σας σ");  // sigma at a word's end
}

TEST(PythonText, Splits) {
  EXPECT_EQ(python_split(" a\u2003b\x1f c\n"), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(python_split(" \n").empty());
}

TEST(PythonText, SeesWordEdges) {
  const auto edges = [](std::string_view text) {
    std::string at;
    for (size_t i = 0; i <= text.size(); ++i) at += python_word_edge(text, i) ? '|' : '.';
    return at;
  };
  EXPECT_EQ(edges("ab, c_1"), "|.|.|..|");
  EXPECT_EQ(edges(" -"), "...");
  EXPECT_FALSE(python_word_edge("aé", 1));      // a letter beyond ASCII
  EXPECT_TRUE(python_word_edge("a\u0301", 1));  // a mark is no part of a word
  EXPECT_TRUE(python_word_edge("a\u201d", 1));
}

TEST(PythonText, TakesOutPunctuation) {
  EXPECT_EQ(python_without_punctuation("“so”-_ $1.5+a’s¿ (x)"), "so $15+as x");  // $ and + are none
}

TEST(PythonText, CountsCodePoints) {
  EXPECT_EQ(python_length("aé\u2003😀"), 4);
}

TEST(PythonText, ReplacesOnceFromLeftToRight) {
  EXPECT_EQ(replace_all("a    b   c", "  ", " "), "a  b  c");
  EXPECT_EQ(replace_all("x [title] [title]", " [title]", ". "), "x. . ");
}

}  // namespace
}  // namespace headlens
