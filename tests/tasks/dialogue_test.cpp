// headlens/tests: dialogues in both layouts, prompts written out by hand.
#include "headlens/tasks/dialogue.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using Texts = std::vector<std::string>;

class Dialogue : public ::testing::Test {
 protected:
  template <typename Call>
  std::string error_of(Call call) {
    std::string message = error_message<TaskError>(call);
    const std::string folder = dir_.path().string() + "/";
    if (const size_t at = message.find(folder); at != std::string::npos) {
      message.erase(at, folder.size());
    }
    return message;
  }
  std::string dream_error(const std::string& text) {
    const auto file = dir_.write("dream.json", text);
    return error_of([&] { load_dream(file); });
  }
  std::string mutual_error(const std::string& text) {
    dir_.write("m/a.txt", text);
    return error_of([&] { load_mutual(dir_.path() / "m"); });
  }
  testing::TempDir dir_;
};

const std::string kDream =
    R"([[["M: Tea?", "W: Yes."], [{"question": "What is it?", "choice": ["Tea.", "Milk.", "Ink."],)"
    R"( "answer": "Milk."}, {"question": "Who?", "choice": ["a", "b"], "answer": "a"}], "1-1"]])";

TEST_F(Dialogue, DreamByLetter) {
  const auto read = load_dream(dir_.write("dream.json", kDream));
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].prompt, "M: Tea?\nW: Yes.\n\nWhat is it?\nA. Tea.\nB. Milk.\nC. Ink.\nAnswer:");
  EXPECT_EQ(read[0].choices, (Texts{" A", " B", " C"}));
  EXPECT_EQ(read[0].answer, 1);
  ASSERT_EQ(read[0].spans.size(), 3u);
  const ByteSpan second = read[0].spans[1];
  EXPECT_EQ(read[0].prompt.substr(second.begin, second.end - second.begin), "B. Milk.\n");
  EXPECT_TRUE(read[0].lengths.empty());
  EXPECT_EQ(read[1].source, (dir_.path() / "dream.json").string() + " dialogue 1 question 2");
}

TEST_F(Dialogue, DreamByText) {
  const auto read = load_dream(dir_.write("dream.json", kDream), {DialogueForm::Text, 1});
  ASSERT_EQ(read.size(), 1u);
  EXPECT_EQ(read[0].prompt, "M: Tea?\nW: Yes.\n\nQuestion: What is it?\nAnswer:");
  EXPECT_EQ(read[0].choices, (Texts{" Tea.", " Milk.", " Ink."}));
  EXPECT_EQ(read[0].lengths, (std::vector<int64_t>{4, 5, 4}));
}

TEST_F(Dialogue, MutualInTheOrderOfNames) {
  dir_.write("m/b.txt", R"({"answers": "A", "options": ["p", "q"], "article": "m : late"})");
  dir_.write("m/a.txt", R"({"answers": "B", "options": ["f : no , sir .", "f : i do n't"],)"
                        R"( "article": "m : tea ? f : i 'm in . ", "id": "a"})");
  const auto read = load_mutual(dir_.path() / "m");
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].prompt,
            "m: tea? f: i'm in. \n\nWhich reply comes next?\nA. f: no, sir.\nB. f: i don't\n"
            "Answer:");
  EXPECT_EQ(read[0].answer, 1);
  EXPECT_EQ(read[0].spans.size(), 2u);
  const auto text = load_mutual(dir_.path() / "m", {DialogueForm::Text, 1});
  ASSERT_EQ(text.size(), 1u);
  EXPECT_EQ(text[0].prompt, "m: tea? f: i'm in.");
  EXPECT_EQ(text[0].choices, (Texts{"  f: no, sir.", "  f: i don't"}));  // the article's last space
}

TEST_F(Dialogue, NamesFileAndKey) {
  EXPECT_EQ(dream_error("[]"),
            "[task] dream.json: dialogues, expected an array of them, got array "
            "[]");
  EXPECT_EQ(dream_error(R"([["a"]])"),
            "[task] dream.json dialogue 1: value, expected [turns, "
            "questions, id], got array [\"a\"]");
  EXPECT_EQ(
      dream_error(R"([[["a", 2], [], "id"]])"),
      "[task] dream.json dialogue 1: turns, expected an array of strings, got array [\"a\",2]");
  EXPECT_EQ(dream_error(R"([[["a"], [{"question": "q", "choice": ["x", "y"], "answer": "z"}]]])"),
            "[task] dream.json dialogue 1 question 1: 'answer', expected one of the choices, got "
            "'z'");
  EXPECT_TRUE(dream_error("[[").starts_with("[task] dream.json: text, expected valid JSON, got "));
  EXPECT_EQ(mutual_error(R"({"article": "a", "options": ["x", "y"], "answers": "C"})"),
            "[task] m/a.txt: 'answers', expected A to B, got 'C'");
  EXPECT_EQ(mutual_error(R"({"article": "a", "answers": "C"})"),
            "[task] m/a.txt: 'options', expected in the line, got none");
  EXPECT_EQ(error_of([&] { load_mutual(dir_.path() / "none"); }),
            "[task] none: directory, expected .txt files in it, got no directory");
}

}  // namespace
}  // namespace headlens
