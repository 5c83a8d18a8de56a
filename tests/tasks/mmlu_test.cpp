// headlens/tests: MMLU prompts, written out by hand from the harness's template.
#include "headlens/tasks/mmlu.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using Texts = std::vector<std::string>;

/// Two made-up subjects; the first has a question with a comma, and spaces around it.
class Mmlu : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_.write("dev/odd_sums_dev.csv", "1 + 1?,2,3,4,5,A\n\"2, 2?\",2,3,4,5,C\n");
    dir_.write("test/odd_sums_test.csv",
               "\" Is it,\n\"\"so\"\"? \",yes,no, maybe,\"a, b\",D\n"
               "1 + 1?,2,3,4,5,A\nlast,w,x,y,z,B\n");
    dir_.write("dev/art_dev.csv", "Who?,me,you,us,them,B\n");
    dir_.write("test/art_test.csv", "What?,p,q,r,s,C\n");
  }

  std::vector<Example> load(const MmluOptions& options) { return load_mmlu(dir_.path(), options); }
  MmluOptions sums(int64_t shots, MmluForm form = MmluForm::Letters) {
    return {shots, form, "test", {"odd_sums"}, 0};
  }
  std::string error_of(const MmluOptions& options) {
    std::string message = error_message<Error>([&] { load(options); });
    const std::string folder = dir_.path().string() + "/";
    if (const size_t at = message.find(folder); at != std::string::npos) {
      message.erase(at, folder.size());
    }
    return message;
  }

  testing::TempDir dir_;
};

/// The description of the first subject and what follows it.
std::string opened(const std::string& rest) {
  std::string text = "The following are multiple choice questions (with answers) about odd sums.";
  return text.append("\n\n").append(rest);
}

TEST_F(Mmlu, LetterFormWithShots) {
  const Example first = load(sums(2))[0];
  EXPECT_EQ(first.prompt, opened("1 + 1?\nA. 2\nB. 3\nC. 4\nD. 5\nAnswer: A\n\n"
                                 "2, 2?\nA. 2\nB. 3\nC. 4\nD. 5\nAnswer: C\n\n"
                                 "Is it,\n\"so\"?\nA. yes\nB. no\nC.  maybe\nD. a, b\nAnswer:"));
  EXPECT_EQ(first.choices, (Texts{" A", " B", " C", " D"}));
  EXPECT_EQ(first.answer, 3);
  EXPECT_EQ(first.source, (dir_.path() / "test/odd_sums_test.csv line 1").string());
  EXPECT_TRUE(first.lengths.empty());
}

TEST_F(Mmlu, SegmentsAreTheOptionsOfTheQuestionItself) {
  const Example first = load(sums(2))[0];
  Texts lines;
  for (const ByteSpan& span : first.spans) {
    lines.push_back(first.prompt.substr(span.begin, span.end - span.begin));
  }
  EXPECT_EQ(lines, (Texts{"A. yes\n", "B. no\n", "C.  maybe\n", "D. a, b\n"}));
}

TEST_F(Mmlu, DescriptionStaysWithoutShots) {
  EXPECT_EQ(load(sums(0))[2].prompt, opened("last\nA. w\nB. x\nC. y\nD. z\nAnswer:"));
}

// The harness leaves out an example that is the very question.
TEST_F(Mmlu, AQuestionIsNotItsOwnExample) {
  EXPECT_EQ(load(sums(2))[1].prompt, opened("2, 2?\nA. 2\nB. 3\nC. 4\nD. 5\nAnswer: C\n\n"
                                            "1 + 1?\nA. 2\nB. 3\nC. 4\nD. 5\nAnswer:"));
  MmluOptions dev = sums(1);
  dev.split = "dev";
  EXPECT_EQ(load(dev)[0].prompt, opened("2, 2?\nA. 2\nB. 3\nC. 4\nD. 5\nAnswer: C\n\n"
                                        "1 + 1?\nA. 2\nB. 3\nC. 4\nD. 5\nAnswer:"));
}

TEST_F(Mmlu, TextForm) {
  const Example first = load(sums(1, MmluForm::Text))[0];
  EXPECT_EQ(first.prompt,
            "The following are questions (with answers) about odd sums.\n\n"
            "Question: 1 + 1?\nAnswer: 2\n\nQuestion: Is it,\n\"so\"?\nAnswer:");
  EXPECT_EQ(first.choices, (Texts{" yes", " no", "  maybe", " a, b"}));
  EXPECT_EQ(first.lengths, (std::vector<int64_t>{3, 2, 6, 4}));
  EXPECT_TRUE(first.spans.empty());
}

TEST_F(Mmlu, SubjectsInTheirOrderAndTheFirstOfEach) {
  const auto all = load({0, MmluForm::Text, "test", {}, 0});
  ASSERT_EQ(all.size(), 4u);
  EXPECT_NE(all[0].prompt.find("about art."), std::string::npos);
  EXPECT_EQ(load({0, MmluForm::Text, "test", {}, 2}).size(), 3u);
}

TEST_F(Mmlu, NamesWhatIsWrong) {
  EXPECT_EQ(error_of(sums(3)),
            "[task] dev/odd_sums_dev.csv: questions, expected 3 for 3 shots, "
            "got 2");
  MmluOptions options = sums(0);
  options.subjects = {"odd_sum"};
  EXPECT_EQ(error_of(options),
            "[task] mmlu: subject, expected one of the 2 in test, got 'odd_sum' "
            "(did you mean 'odd_sums'?)");
  options.split = "val";
  EXPECT_EQ(error_of(options),
            "[task] val: directory, expected SUBJECT_val.csv files in it, got no directory");
  options.split = "train";
  EXPECT_EQ(error_of(options), "[task] mmlu: split, expected test, val or dev, got 'train'");
  dir_.write("test/odd_sums_test.csv", "q,a,b,c,d,A\nq,a,b,c,B\n");
  EXPECT_EQ(error_of(sums(0)),
            "[task] test/odd_sums_test.csv line 2: columns, expected 6 "
            "(question, A, B, C, D, letter), got 5");
  dir_.write("test/odd_sums_test.csv", "question,A,B,C,D,answer\n");
  EXPECT_EQ(error_of(sums(0)),
            "[task] test/odd_sums_test.csv line 1: answer, expected A, B, C or "
            "D, got 'answer'");
  dir_.write("test/odd_sums_test.csv", "\n");
  EXPECT_EQ(error_of(sums(0)),
            "[task] test/odd_sums_test.csv: questions, expected at least one, got none");
}

}  // namespace
}  // namespace headlens
