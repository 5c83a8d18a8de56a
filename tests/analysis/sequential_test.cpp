// headlens/tests: sequential testing against its error rate and against the whole sweep.
#include "headlens/analysis/sequential.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "retrieval_model.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::retrieval_examples;
using testing::RetrievalModel;

/// How often the claim is given up when n values, `losses` of them 1, are drawn in random order.
double given_up(int64_t n, int64_t losses, int64_t gains, double least, double alpha) {
  std::vector<double> values(static_cast<size_t>(n), 0.0);
  for (int64_t i = 0; i < losses; ++i) values[static_cast<size_t>(i)] = 1;
  for (int64_t i = 0; i < gains; ++i) values[static_cast<size_t>(losses + i)] = -1;
  std::mt19937 random(7);
  constexpr int kRuns = 2000;
  int stopped = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::shuffle(values.begin(), values.end(), random);
    ShortfallTest test(n, least);
    for (const double value : values) {
      test.add(value);
      if (test.log_evidence() >= std::log(1 / alpha)) {
        ++stopped;
        break;
      }
    }
  }
  return stopped / static_cast<double>(kRuns);
}

TEST(ShortfallTest, ErrsAsRarelyAsItSays) {
  // The claim is just true: looking after every value, at most alpha of the runs may give it up;
  // 2000 runs tell that to 3 standard errors.
  for (const double alpha : {0.05, 0.2}) {
    const double slack = 3 * std::sqrt(alpha * (1 - alpha) / 2000);
    EXPECT_LE(given_up(100, 10, 0, 0.1, alpha), alpha + slack);
    EXPECT_LE(given_up(100, 30, 10, 0.2, alpha), alpha + slack);
    EXPECT_LE(given_up(40, 20, 0, 0.5, alpha), alpha + slack);
  }
  // Not for want of power.
  EXPECT_GE(given_up(100, 10, 0, 0.1, 0.2), 0.02);
}

TEST(ShortfallTest, GivesUpWhatIsFalse) {
  EXPECT_EQ(given_up(200, 0, 0, 0.1, 0.01), 1);
  EXPECT_GE(given_up(200, 10, 10, 0.1, 0.01), 0.99);
}

TEST(ShortfallTest, EndsSureAtTheLastValue) {
  ShortfallTest short_of(3, 0.5), reached(3, 1.0 / 3);
  for (const double value : {0.0, 1.0, 0.0}) {
    short_of.add(value);
    reached.add(value);
  }
  EXPECT_TRUE(std::isinf(short_of.log_evidence()));
  EXPECT_FALSE(std::isinf(reached.log_evidence()));
  EXPECT_EQ(error_message<ShapeError>([&] { reached.add(0); }),
            "[sequential] value, expected one of 0 left within -1 to 1, got 0");
}

// Idle heads are let go, those of the circuit are tested to the end and get the sweep's figures.
TEST(SequentialSweep, KeepsTheCircuitAndLetsIdleHeadsGo) {
  const LanguageModel model = RetrievalModel::make();
  const auto examples = retrieval_examples();
  const auto objective = make_choice_objective(examples);
  const std::vector<HeadId> heads = all_heads(model.config(), 1);
  const SequentialLooks looks{0.05, make_choice_parts(examples, 4, 1)};
  std::vector<int64_t> all;
  for (const ObjectivePart& part : looks.parts) {
    all.insert(all.end(), part.examples.begin(), part.examples.end());
  }
  EXPECT_FALSE(std::is_sorted(all.begin(), all.end()));
  const SequentialResult found = sequential_sweep(model, looks, heads, 0.5);
  const SweepResult whole = ablation_sweep(model, *objective, heads);
  for (size_t h = 0; h < heads.size(); ++h) {
    const bool in_circuit = heads[h] == HeadId{0, 1, 1} || heads[h] == HeadId{1, 0, 0};
    EXPECT_EQ(found.examples[h] == 24, in_circuit) << heads[h].layer << "." << heads[h].first;
    for (size_t i = 0; i < static_cast<size_t>(found.examples[h]); ++i) {
      const Verdict& same = whole.variants[h].verdicts[static_cast<size_t>(all[i])];
      EXPECT_EQ(found.swept.variants[h].verdicts[i].correct, same.correct);
      // Other batches, other rounding of float64.
      EXPECT_NEAR(found.swept.variants[h].verdicts[i].logprob, same.logprob, 1e-9);
    }
  }
  std::sort(all.begin(), all.end());
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], static_cast<int64_t>(i));
}

TEST(SequentialSweep, ErrorsNameWhatIsWrong) {
  const LanguageModel model = RetrievalModel::make();
  SequentialLooks looks{0.05, make_choice_parts(retrieval_examples(), 4, 1)};
  SweepOptions mean;
  mean.mode = AblationMode::Mean;
  EXPECT_EQ(error_message<UsageError>([&] {
              sequential_sweep(model, looks, {{0, 0, 0}}, 0.1, mean);
            }),
            "[sequential] mode, expected zero, got another");
  looks.alpha = 1;
  EXPECT_EQ(error_message<UsageError>([&] {
              sequential_sweep(model, looks, {{0, 0, 0}}, 0.1);
            }),
            "[sequential] error rate, expected between 0 and 1, got 1");
}

}  // namespace
}  // namespace headlens
