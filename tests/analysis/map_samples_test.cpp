// headlens/tests: sampled maps against dense ones.
#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/analysis/map_figures.h"

namespace headlens {
namespace {

using testing::dense_maps;
using testing::error_message;
using testing::kFamilies;
using testing::load_model;
using testing::objective_of;
using testing::unlike_examples;

/// [query, key]; of a group of channels the mean of the row-normalised |M|.
Tensor expected_map(const LanguageModel& model, const TokenizedExample& example,
                    const HeadId& head) {
  const Tensor maps = dense_maps(model, example, head.layer).slice(0, head.first, head.last + 1);
  if (head.first == head.last) return maps[0];
  return (maps.abs() / maps.abs().sum(-1, true)).mean(0);
}

void expect_same_map(const Eigen::MatrixXf& got, const Tensor& expected) {
  ASSERT_EQ(got.rows(), expected.size(0));
  ASSERT_EQ(got.cols(), expected.size(1));
  const auto values = expected.accessor<double, 2>();
  for (int64_t i = 0; i < got.rows(); ++i) {
    for (int64_t j = 0; j < got.cols(); ++j) {
      const double bound = 1e-6 * std::max(1.0, std::abs(values[i][j]));  // float32's rounding
      EXPECT_NEAR(got(i, j), values[i][j], bound) << i << ", " << j;
    }
  }
}

class MapSamplesTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, MapSamplesTest, ::testing::ValuesIn(kFamilies));

TEST_P(MapSamplesTest, AreTheDenseMaps) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  const std::vector<HeadId> heads = all_heads(model.config(), 20);  // groups of 2 and 3 channels
  const auto objective = objective_of(examples);
  for (const int64_t example : {2, 3}) {
    const auto samples = map_samples(model, *objective, example, heads);
    ASSERT_EQ(samples.size(), heads.size());
    for (size_t h = 0; h < heads.size(); ++h) {
      EXPECT_EQ(samples[h].head, heads[h]);
      EXPECT_EQ(samples[h].tokens, examples[static_cast<size_t>(example)].tokens);
      expect_same_map(samples[h].map,
                      expected_map(model, examples[static_cast<size_t>(example)], heads[h]));
    }
  }
}

TEST_P(MapSamplesTest, KeepTheLastRowsAndKeys) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();  // example 0: 9 tokens, segments 0-2 and 3-6, target 1
  const std::vector<HeadId> heads = {all_heads(model.config(), 20).back()};
  const MapSample sample = map_samples(model, *objective_of(examples), 0, heads, 5).front();
  EXPECT_EQ(sample.tokens,
            std::vector<std::string>(examples[0].tokens.begin() + 4, examples[0].tokens.end()));
  const Tensor whole = expected_map(model, examples[0], heads[0]);
  expect_same_map(sample.map, whole.slice(0, 4).slice(1, 4));
  EXPECT_EQ(sample.segments, (std::vector<std::pair<int64_t, int64_t>>{{0, 2}}));
  EXPECT_EQ(sample.target_segment, 0);
  EXPECT_EQ(sample.first_position, 4);
}

TEST(MapSamples, AGroupOverTwoMixersIsTheMeanOfBoth) {
  const LanguageModel model = load_model("falcon_h1");  // heads 0..5 and 6..9
  const auto examples = unlike_examples();
  const HeadId group{1, 4, 7};
  const auto sample = map_samples(model, *objective_of(examples), 2, {group}).front();
  expect_same_map(sample.map, expected_map(model, examples[2], group));
}

TEST(MapSamples, SegmentsAndTarget) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;
  const MapSample whole = map_samples(model, *objective, 0, {{0, 0, 0}}).front();
  EXPECT_EQ(whole.segments, (Ranges{{0, 2}, {3, 6}}));
  EXPECT_EQ(whole.target_segment, 1);
  EXPECT_EQ(map_samples(model, *objective, 2, {{0, 0, 0}}).front().target_segment, -1);
  EXPECT_TRUE(map_samples(model, *objective, 3, {{0, 0, 0}}).front().segments.empty());
}

TEST(MapSamples, RefusesWhatIsNotThere) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  EXPECT_EQ(error_message<TaskError>([&] {
              map_samples(model, *objective, 6, {{0, 0, 0}});
            }),
            "[map_samples] example, expected 0 to 5, got 6");
  EXPECT_EQ(error_message<TaskError>([&] {
              map_samples(model, *objective, -1, {{0, 0, 0}});
            }),
            "[map_samples] example, expected 0 to 5, got -1");
  EXPECT_EQ(error_message<UsageError>([&] {
              map_samples(model, *objective, 0, {{0, 0, 0}}, 0);
            }),
            "[map_samples] queries to keep, expected at least 1, got 0");
}

}  // namespace
}  // namespace headlens
