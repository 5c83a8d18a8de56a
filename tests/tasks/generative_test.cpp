// headlens/tests: generative tasks, prompts written out by hand.
#include "headlens/tasks/generative.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using Texts = std::vector<std::string>;

class Generative : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (dir_.path() / name).string(); }
  std::string error_of(const std::string& spec) {
    std::string message = error_message<Error>([&] { make_generative_task(spec); });
    const std::string folder = dir_.path().string() + "/";
    for (size_t at; (at = message.find(folder)) != std::string::npos;) {
      message.erase(at, folder.size());
    }
    return message;
  }
  void write_gsm8k() {
    dir_.write("test.jsonl",
               "{\"question\": \"How many?\", \"answer\": \"It is 3.\\n#### 1,003\"}\n"
               "{\"question\": \"And now?\", \"answer\": \"#### 4\"}\n");
    dir_.write("train.jsonl",
               "{\"question\": \"One?\", \"answer\": \"One.\\n#### 1\"}\n"
               "{\"question\": \"Two?\", \"answer\": \"Two.\\n#### 2\"}\n");
    dir_.write("cot.jsonl",
               "{\"question\": \"One?\", \"target\": \"It is one. The answer is 1.\"}");
  }
  void write_bbh() {
    dir_.write("d/bbh/navigate.json",
               R"({"canary": "c", "examples": [{"input": "Left?", "target": "No"},)"
               R"( {"input": "Right?", "target": "Yes"}]})");
    dir_.write("d/cot-prompts/navigate.txt",
               "canary\n-----\nFind the way.\n\nQ: Up?\nA: Let's think step by step.\n"
               "Not up. So the answer is No.\n\nQ: Down?\nA: Let's think step by step. Down it is. "
               "So the answer is Yes.\n");
  }
  testing::TempDir dir_;
};

TEST_F(Generative, Gsm8k) {
  write_gsm8k();
  const std::string spec =
      "gsm8k:" + path("test.jsonl") + ",shots=1,examples=" + path("train.jsonl");
  const GenerativeTask task = make_generative_task(spec);
  ASSERT_EQ(task.examples.size(), 2u);
  EXPECT_EQ(task.examples[0].prompt,
            "Question: One?\nAnswer: One.\n#### 1\n\nQuestion: How many?\nAnswer:");
  EXPECT_EQ(task.stop, (Texts{"Question:", "</s>", "<|im_end|>"}));
  EXPECT_EQ(task.info.name, "gsm8k");
  EXPECT_EQ(task.info.params.at("shots"), "1");
  ASSERT_EQ(task.rules.size(), 2u);
  EXPECT_EQ(task.rules[0].name, "strict-match");
  EXPECT_TRUE(judge_completion(task.rules[0], " So.\n#### 1003.", task.examples[0]));
  EXPECT_FALSE(judge_completion(task.rules[0], " So 1003", task.examples[0]));
  EXPECT_TRUE(judge_completion(task.rules[1], " 3 + 1000 = $1,003.", task.examples[0]));
  EXPECT_FALSE(judge_completion(task.rules[1], " 1003 - 0", task.examples[0]));
}

TEST_F(Generative, Gsm8kWithChainsOfThought) {
  write_gsm8k();
  const GenerativeTask task = make_generative_task("gsm8k-cot:" + path("test.jsonl") +
                                                   ",shots=1,n=1,examples=" + path("cot.jsonl"));
  ASSERT_EQ(task.examples.size(), 1u);
  EXPECT_EQ(task.examples[0].prompt, "Q: One?\nA: It is one. The answer is 1.\n\nQ: How many?\nA:");
  EXPECT_EQ(task.examples[0].target, "1,003");
  EXPECT_EQ(task.stop.front(), "Q:");
  EXPECT_TRUE(judge_completion(task.rules[0], "The answer is 1,003.", task.examples[0]));
}

TEST_F(Generative, BbhWithAnswersAlone) {
  write_bbh();
  const GenerativeTask none = make_generative_task("bbh:" + path("d"));
  EXPECT_EQ(none.examples[1].prompt, "Find the way.\n\nQ: Right?\nA:");
  EXPECT_EQ(none.stop, (Texts{"</s>", "Q:", "<|im_end|>"}));
  const GenerativeTask two = make_generative_task("bbh:" + path("d") + ",shots=2,n=1");
  EXPECT_EQ(two.examples.size(), 1u);
  EXPECT_EQ(two.examples[0].prompt,
            "Find the way.\n\nQ: Up?\nA: No\n\nQ: Down?\nA: Yes\n\nQ: Left?\nA:");
  EXPECT_EQ(two.stop, (Texts{"</s>", "Q", "\n\n"}));
  EXPECT_EQ(two.examples[0].kind, "navigate");
  EXPECT_TRUE(judge_completion(two.rules[0], "no.", two.examples[0]));
  EXPECT_FALSE(judge_completion(two.rules[0], "I say No", two.examples[0]));
  EXPECT_TRUE(judge_completion(two.rules[1], "I say No", two.examples[0]));
}

TEST_F(Generative, BbhWithChainsOfThought) {
  write_bbh();
  const GenerativeTask task = make_generative_task("bbh-cot:" + path("d") + ",shots=2,n=1");
  EXPECT_EQ(task.examples[0].prompt,
            "Find the way.\n\nQ: Up?\nA: Let's think step by step.\nNot up. So the answer is No."
            "\n\nQ: Down?\nA: Let's think step by step. Down it is. So the answer is Yes.\n\n"
            "Q: Left?\nA: Let's think step by step.\n");
  EXPECT_EQ(task.max_new_tokens, 1024);
  EXPECT_TRUE(judge_completion(task.rules[0], "So the answer is No.", task.examples[0]));
  EXPECT_FALSE(judge_completion(task.rules[0], "So the answer is No", task.examples[0]));
}

TEST_F(Generative, StopsAtTheFirstOfTheStopStrings) {
  EXPECT_EQ(cut_at_stop(" a\n\nQ: b</s>", {"Q:", "\n\n", "</s>"}), " a");
  EXPECT_EQ(cut_at_stop(" a", {"Q"}), " a");
  EXPECT_EQ(cut_at_stop("Q", {"Q"}), "");
}

TEST_F(Generative, NamesWhatIsWrong) {
  write_gsm8k();
  write_bbh();
  EXPECT_EQ(error_of("gsm8:x"),
            "[task] generative task, expected one of gsm8k, gsm8k-cot, bbh, "
            "bbh-cot, got 'gsm8' (did you mean 'gsm8k'?)");
  EXPECT_EQ(error_of("gsm8k:" + path("test.jsonl")),
            "[task] examples, expected a file to take 5 shots from, got none");
  EXPECT_EQ(error_of("gsm8k:" + path("test.jsonl") + ",examples=" + path("train.jsonl")),
            "[task] train.jsonl: examples, expected 5 for 5 shots, got 2");
  EXPECT_EQ(error_of("gsm8k:" + path("none.jsonl") + ",shots=0"),
            "[task] none.jsonl: file, expected a readable one, got none");
  EXPECT_EQ(error_of("bbh:" + path("d") + ",tasks=navigat"),
            "[task] bbh: task, expected one of the 1 in d/bbh, got 'navigat' (did you mean "
            "'navigate'?)");
  EXPECT_EQ(error_of("bbh:" + path("")),
            "[task] bbh: directory, expected TASK.json files in it, got no directory");
  dir_.write("d/bbh/navigate.json", R"({"examples": [{"input": "Left?"}]})");
  EXPECT_EQ(error_of("bbh:" + path("d")),
            "[task] d/bbh/navigate.json example 1: 'target', "
            "expected in the line, got none");
  dir_.write("d/cot-prompts/navigate.txt", "Find the way.\n");
  EXPECT_EQ(error_of("bbh-cot:" + path("d")),
            "[task] d/cot-prompts/navigate.txt: text, expected a line '-----' after the canary, "
            "got none");
}

}  // namespace
}  // namespace headlens
