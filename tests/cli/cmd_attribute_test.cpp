// headlens/tests: `attribute` on models of words and on the bundled models.
#include <gtest/gtest.h>

#include "cli/command_tools.h"

namespace headlens {
namespace {

using testing::Called;
using testing::headlens;
using testing::Json;
using testing::model_with_words;
using testing::read_file;
using testing::TempDir;
using testing::word_task;

double sum_of(const Json& list) {
  double sum = 0;
  for (const Json& entry : list) sum += entry["effect"].get<double>();
  return sum;
}

void expect_whole(const Json& found, double tolerance) {
  const double sum = sum_of(found["heads"]) + sum_of(found["mlps"]) + sum_of(found["biases"]) +
                     found["embedding"].get<double>() + found["norm_bias"].get<double>();
  EXPECT_NEAR(sum, found["difference"].get<double>(), tolerance);
  EXPECT_NEAR(found["lens"].back()["difference"], found["difference"].get<double>(), tolerance);
}

TEST(AttributeCommand, WritesAllPartsOfEveryKindOfModel) {
  const TempDir dir;
  const std::string task = "jsonl:" + word_task(dir, 8).string();
  const std::string out = (dir.path() / "parts.json").string();
  for (const char* family : {"llama", "falcon_mamba", "llamba", "jamba", "gpt2"}) {
    SCOPED_TRACE(family);
    const Called called =
        headlens({"attribute", model_with_words(dir, family).string(), "--task", task, "--quiet",
                  "--json", "--dtype", "float64", "--groups", "2", "--out", out});
    ASSERT_EQ(called.status, 0) << called.err;
    EXPECT_EQ(called.json(), Json::parse(read_file(out)));
    EXPECT_EQ(called.json()["schema"], "headlens.attribution/1");
    expect_whole(called.json(), 1e-9);
  }
}

TEST(AttributeCommand, SaysWhatItCannotDo) {
  const TempDir dir;
  const Called called = headlens({"attribute", model_with_words(dir, "gemma2").string(), "--task",
                                  "jsonl:" + word_task(dir, 8).string(), "--quiet"});
  EXPECT_EQ(called.status, 2);
  EXPECT_EQ(called.err,
            "headlens: error: [attribute_logits] layer 0, expected heads that write straight to "
            "the residual, got a norm between\n");
}

// The bundled Transformer answers letters by its last layer's Aggregate heads.
TEST(AttributeCommand, TheTransformersAnswerIsWrittenInItsLastLayer) {
  const Called called = headlens({"attribute", "zoo:transformer", "--task", "mcq:options=4,n=64",
                                  "--seed", "3", "--quiet", "--json"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json found = called.json();
  expect_whole(found, 1e-3);
  EXPECT_GT(found["lens"].back()["accuracy"], 0.9);
  EXPECT_LT(found["lens"].front()["accuracy"], 0.5);
  double best = 0;
  Json head;
  for (const Json& entry : found["heads"]) {
    if (entry["effect"] <= best) continue;
    best = entry["effect"];
    head = entry;
  }
  EXPECT_EQ(head["layer"], 3);
}

}  // namespace
}  // namespace headlens
