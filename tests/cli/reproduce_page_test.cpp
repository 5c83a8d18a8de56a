// headlens/tests: an outcome as a journal keeps it is the outcome.
#include "cli/reproduce_page.h"

#include <gtest/gtest.h>

namespace headlens::cli {
namespace {

TEST(ReproducePage, OutcomesComeBackFromTheirJson) {
  for (const Verdict verdict : {Verdict::Holds, Verdict::DoesNotHold, Verdict::NotRun}) {
    const Outcome outcome = {
        .model = "zoo:m",
        .verdict = verdict,
        .why = "heads \"1.2\", <3.4>",
        .figures = {{"whole", {1.0 / 3, 0.1, 0.7}, "0.66"}, {"drop", {-1e-17, -1, 1}}},
        .seconds = 12.25,
        .peak_bytes = int64_t{5} << 33};
    const Outcome got = read_outcome(Json::parse(json_text(outcome_json(outcome))));
    EXPECT_EQ(got.model, outcome.model);
    EXPECT_EQ(got.verdict, verdict);
    EXPECT_EQ(got.why, outcome.why);
    EXPECT_EQ(got.seconds, outcome.seconds);
    EXPECT_EQ(got.peak_bytes, outcome.peak_bytes);
    ASSERT_EQ(got.figures.size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(got.figures[i].what, outcome.figures[i].what);
      EXPECT_EQ(got.figures[i].paper, outcome.figures[i].paper);
      EXPECT_EQ(got.figures[i].ours.value, outcome.figures[i].ours.value);
      EXPECT_EQ(got.figures[i].ours.low, outcome.figures[i].ours.low);
      EXPECT_EQ(got.figures[i].ours.high, outcome.figures[i].ours.high);
    }
  }
}

}  // namespace
}  // namespace headlens::cli
