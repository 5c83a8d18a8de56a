// headlens/tests: tasks by name.
#include "headlens/tasks/task.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/tasks/kv_retrieval.h"
#include "headlens/tasks/multiple_choice.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;

std::string usage_error(const std::string& spec) {
  return error_message<UsageError>([&] { make_task(spec, 0); });
}

TEST(MakeTask, RecordsEveryParameter) {
  const Task task = make_task("kv:pairs=4,n=6", 12);
  EXPECT_EQ(task.info.spec, "kv:pairs=4,n=6");
  EXPECT_EQ(task.info.name, "kv");
  EXPECT_EQ(task.info.examples, 6);
  EXPECT_EQ(task.info.seed, 12u);
  EXPECT_EQ(task.info.params, (std::map<std::string, std::string>{{"n", "6"}, {"pairs", "4"}}));
  EXPECT_EQ(task.examples[5].prompt, make_kv_retrieval({4, 6}, 12)[5].prompt);
}

TEST(MakeTask, HasDefaults) {
  const Task task = make_task("mcq", 1);
  EXPECT_EQ(task.info.params.at("options"), "4");
  EXPECT_EQ(task.info.examples, 512);
  EXPECT_EQ(task.examples[3].prompt, make_multiple_choice({4, 512}, 1)[3].prompt);
  EXPECT_EQ(make_task("kv:n=1", 1).examples[0].choices.size(), 20u);
  EXPECT_EQ(make_task("world-facts", 1).info.examples, 240);
  EXPECT_EQ(make_task("world-mcq:options=3,n=5", 1).examples[0].choices.size(), 3u);
}

TEST(MakeTask, ReadsAFileWhosePathHoldsSigns) {
  const testing::TempDir dir;
  const auto file = dir.write("a,b=c:d.jsonl", R"({"prompt":"p","choices":["x","y"],"answer":1})");
  const Task task = make_task("jsonl:" + file.string(), 0);
  EXPECT_EQ(task.info.name, "jsonl");
  EXPECT_EQ(task.info.params.at("file"), file.string());
  EXPECT_EQ(task.info.examples, 1);
}

TEST(MakeTask, NamesTheKnownTasks) {
  const std::string near = usage_error("mqc:n=4"), far = usage_error("sudoku");
  EXPECT_TRUE(near.starts_with("[task] task, expected one of kv, mcq, ")) << near;
  EXPECT_TRUE(near.ends_with(", jsonl, got 'mqc' (did you mean 'mcq'?)")) << near;
  EXPECT_TRUE(far.ends_with(", jsonl, got 'sudoku'")) << far;
}

TEST(MakeTask, NamesTheKnownParameters) {
  EXPECT_EQ(usage_error("kv:pair=4"),
            "[task] kv: parameter, expected one of pairs, n, got 'pair' (did you mean 'pairs'?)");
  EXPECT_EQ(usage_error("kv:pairs=4,pairs=5"),
            "[task] kv: parameter 'pairs', expected once, got it twice");
  EXPECT_EQ(usage_error("kv:pairs"), "[task] kv: parameters, expected name=value, got 'pairs'");
  EXPECT_EQ(usage_error("kv:"), "[task] kv: parameters, expected name=value, got ''");
  EXPECT_EQ(usage_error("jsonl:"), "[task] jsonl, expected jsonl:FILE, got no file");
  EXPECT_EQ(usage_error("jsonl"), "[task] jsonl, expected jsonl:FILE, got no file");
}

TEST(MakeTask, NamesTheRangeOfAValue) {
  EXPECT_EQ(usage_error("kv:pairs=1"), "[task] kv: pairs, expected an integer 2 to 100, got '1'");
  EXPECT_EQ(usage_error("mcq:options=4x"),
            "[task] mcq: options, expected an integer 2 to 8, got '4x'");
  EXPECT_EQ(usage_error("mcq:options="), "[task] mcq: options, expected an integer 2 to 8, got ''");
  EXPECT_EQ(usage_error("world-facts:n=241"),
            "[task] world-facts: n, expected an integer 1 to 240, got '241'");
  EXPECT_EQ(usage_error("kv:n=99999999999999999999"),
            "[task] kv: n, expected an integer 1 to 1000000, got '99999999999999999999'");
}

TEST(KnownTasks, ListsSpecsThatWork) {
  const auto specs = known_tasks();
  EXPECT_EQ(specs[0], "kv:pairs=20,n=512");
  EXPECT_EQ(specs.back(), "jsonl:FILE");
  EXPECT_NE(std::find(specs.begin(), specs.end(),
                      "mmlu:DIR,shots=5,form=letters,subjects=all,split=test,n=all"),
            specs.end());
  for (const std::string& spec : specs) {
    const bool made = spec.find(":FILE") == spec.npos && spec.find(":DIR") == spec.npos;
    if (made) {
      EXPECT_EQ(make_task(spec, 0).info.spec, spec);
    }
  }
}

// The path ends before the first ",name=".
TEST(MakeTask, ReadsAPathAndParameters) {
  const testing::TempDir dir;
  const std::string row =
      R"({"question": "Q?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, )"
      R"("answerKey": "B"})";
  const auto file = dir.write("a,b:c.jsonl", row + "\n" + row + "\n");
  const Task task = make_task("arc-easy:" + file.string() + ",n=1", 3);
  EXPECT_EQ(task.info.name, "arc-easy");
  EXPECT_EQ(task.info.examples, 1);
  EXPECT_EQ(task.info.params, (std::map<std::string, std::string>{
                                  {"n", "1"}, {"path", file.string()}, {"shots", "0"}}));
  EXPECT_EQ(make_task("arc-easy:" + file.string(), 3).info.params.at("n"), "all");
}

TEST(MakeTask, NamesWhatIsWrongWithAPathOrParameter) {
  EXPECT_EQ(usage_error("mmlu"), "[task] mmlu, expected mmlu:DIR, got no path");
  EXPECT_EQ(usage_error("piqa:,n=2"), "[task] piqa, expected piqa:FILE, got no path");
  EXPECT_EQ(usage_error("mmlu:d,shot=3"),
            "[task] mmlu: parameter, expected one of shots, form, subjects, split, n, got 'shot' "
            "(did you mean 'shots'?)");
  EXPECT_EQ(usage_error("mmlu:d,n=2,n=3"),
            "[task] mmlu: parameter 'n', expected once, got it twice");
  EXPECT_EQ(usage_error("mmlu:d,n=0"), "[task] mmlu: n, expected an integer 1 to 1000000, got '0'");
  EXPECT_EQ(usage_error("mmlu:d,shots=all"),
            "[task] mmlu: shots, expected an integer 0 to 100, got 'all'");
  EXPECT_EQ(usage_error("mmlu:d,form=word"),
            "[task] mmlu: form, expected letters or text, got 'word'");
}

}  // namespace
}  // namespace headlens
