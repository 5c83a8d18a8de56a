// headlens/tests: the whole of `find` on models whose heads are known.
#include "headlens/analysis/gather_aggregate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/analysis/map_figures.h"
#include "retrieval_model.h"

namespace headlens {
namespace {

using testing::channel_model;
using testing::error_message;
using testing::last_token_examples;
using testing::load_model;
using testing::objective_of;
using testing::retrieval_examples;
using testing::RetrievalModel;
using testing::unlike_examples;

/// A head that matters, at the query by reading segments, and within them.
HeadScore capable() {
  HeadScore s;
  s.accuracy_drop = Estimate{0.5, 0.4, 0.6};
  s.drop_at_query = 0.3;
  s.drop_elsewhere = 0.3;
  s.drop_in_segments = 0.3;
  s.drop_reading_segments = 0.3;
  return s;
}

HeadRole role_of(const std::function<void(HeadScore&)>& change) {
  HeadScore s = capable();
  change(s);
  return assign_role(s, 0.05);
}

TEST(AssignRole, WhereTheLossIs) {
  EXPECT_EQ(role_of([](auto&) {}), HeadRole::Aggregate);  // both alike
  EXPECT_EQ(role_of([](auto& s) { s.drop_in_segments = 0.31; }), HeadRole::Gather);
  EXPECT_EQ(role_of([](auto& s) { s.drop_at_query = 0.24; }), HeadRole::Gather);
  EXPECT_EQ(role_of([](auto& s) { s.drop_in_segments = 0.24; }), HeadRole::Aggregate);
  EXPECT_EQ(role_of([](auto& s) { s.drop_at_query = s.drop_in_segments = 0.24; }), HeadRole::None);
  EXPECT_EQ(role_of([](auto& s) { s.drop_at_query = s.drop_in_segments = 0.25; }),
            HeadRole::Aggregate);
  EXPECT_EQ(role_of([](auto& s) { s.drop_at_query.reset(); }), HeadRole::Gather);
  EXPECT_EQ(role_of([](auto& s) { s.drop_in_segments.reset(); }), HeadRole::Aggregate);
}

TEST(AssignRole, WhatItReadsAtTheQuery) {
  EXPECT_EQ(role_of([](auto& s) { s.drop_reading_segments = 0.25; }), HeadRole::Aggregate);
  EXPECT_EQ(role_of([](auto& s) { s.drop_reading_segments = 0.24; }), HeadRole::Gather);
  EXPECT_EQ(role_of([](auto& s) { s.drop_reading_segments.reset(); }), HeadRole::Gather);
  EXPECT_EQ(role_of([](auto& s) {
              s.drop_reading_segments = 0;
              s.drop_in_segments = 0.2;
            }),
            HeadRole::None);  // it moves something else to the query
}

TEST(AssignRole, WhetherItMatters) {
  EXPECT_EQ(role_of([](auto& s) { s.accuracy_drop->low = 0; }), HeadRole::None);
  EXPECT_EQ(role_of([](auto& s) { s.accuracy_drop.reset(); }), HeadRole::None);
  EXPECT_EQ(role_of([](auto& s) {
              s.accuracy_drop = Estimate{0.049, 0.01, 0.09};
            }),
            HeadRole::None);
  EXPECT_EQ(role_of([](auto& s) {
              s.accuracy_drop = Estimate{0.05, 0.01, 0.09};
            }),
            HeadRole::Aggregate);
  EXPECT_EQ(assign_role(capable(), 0.51), HeadRole::None);
}

const HeadScore& score_of(const FindResult& result, const HeadId& head) {
  const auto found = std::find_if(result.heads.begin(), result.heads.end(),
                                  [&](const HeadScore& s) { return s.head == head; });
  EXPECT_NE(found, result.heads.end());
  return *found;
}

TEST(FindGatherAggregate, FindsTheCircuitWrittenByHand) {
  const LanguageModel model = RetrievalModel::make();
  const FindResult result = find_gather_aggregate(model, *objective_of(retrieval_examples(), 50));
  EXPECT_EQ(result.base.accuracy.value, 1);
  EXPECT_EQ(result.base.examples, 24);
  ASSERT_EQ(result.heads.size(), 8u);
  EXPECT_EQ(result.gather, (std::vector<HeadId>{{0, 1, 1}}));
  EXPECT_EQ(result.aggregate, (std::vector<HeadId>{{1, 0, 0}}));

  // Without either the model takes the largest value, which is right for one of four.
  double largest_is_right = 0;
  for (const TokenizedExample& example : retrieval_examples()) {
    const auto best = std::max_element(example.choice_ids.begin(), example.choice_ids.end());
    largest_is_right += best - example.choice_ids.begin() == example.answer;
  }
  for (const HeadScore& s : result.heads) {
    const bool works = s.role != HeadRole::None;
    EXPECT_EQ(s.kind, "attention");
    EXPECT_NEAR(*s.accuracy, works ? largest_is_right / 24 : 1, 1e-12);
    EXPECT_NEAR(s.accuracy_drop->value, works ? 1 - largest_is_right / 24 : 0, 1e-12);
    EXPECT_EQ(s.drop_at_query.has_value(), works);
    if (!works) {
      EXPECT_NEAR(*s.logprob_drop, 0, 1e-12);
    }
  }
  EXPECT_LT(largest_is_right, 12);
  const HeadScore &gather = score_of(result, {0, 1, 1}), &aggregate = score_of(result, {1, 0, 0});
  EXPECT_EQ(gather.drop_at_query, 0);
  EXPECT_EQ(gather.drop_elsewhere, gather.accuracy_drop->value);
  EXPECT_EQ(aggregate.drop_at_query, aggregate.accuracy_drop->value);
  EXPECT_EQ(aggregate.drop_elsewhere, 0);
  EXPECT_EQ(aggregate.drop_reading_segments, aggregate.accuracy_drop->value);
  EXPECT_EQ(aggregate.drop_in_segments, 0);
  EXPECT_EQ(gather.drop_reading_segments, 0);
  EXPECT_EQ(gather.drop_in_segments, gather.accuracy_drop->value);
  EXPECT_GT(*gather.map.gather, 0.99);  // a value looks at its key
  EXPECT_GT(*aggregate.map.aggregate, 0.99);
  EXPECT_GT(*aggregate.map.target, 0.99);
  EXPECT_LT(*aggregate.map.entropy_norm, 0.05);
  EXPECT_NEAR(*gather.map.aggregate_uniform, 0.4, 1e-12);  // 4 segments, 10 tokens
}

TEST(FindGatherAggregate, KeepsMapsOfTheCircuitFirst) {
  FindOptions options;
  options.map_samples = 3;
  const auto objective = objective_of(retrieval_examples());
  const FindResult result = find_gather_aggregate(RetrievalModel::make(), *objective, options);
  ASSERT_EQ(result.maps.size(), 3u);
  EXPECT_EQ(result.maps[0].head, (HeadId{0, 1, 1}));
  EXPECT_EQ(result.maps[0].role, HeadRole::Gather);
  EXPECT_EQ(result.maps[1].role, HeadRole::Aggregate);
  EXPECT_EQ(result.maps[2].role, HeadRole::None);
  EXPECT_EQ(result.maps[0].map.rows(), 10);
  EXPECT_GT(result.maps[0].map(4, 3), 0.99);  // the token before
  EXPECT_EQ(result.maps[0].segments.size(), 4u);
  options.map_samples = 0;
  EXPECT_TRUE(find_gather_aggregate(RetrievalModel::make(), *objective, options).maps.empty());
}

TEST(FindGatherAggregate, WithoutSegmentsGivesNoRole) {
  auto examples = retrieval_examples();
  for (TokenizedExample& example : examples) example.segments.clear();
  const FindResult result = find_gather_aggregate(RetrievalModel::make(), *objective_of(examples));
  EXPECT_TRUE(result.gather.empty() && result.aggregate.empty());
  const HeadScore& head = score_of(result, {0, 1, 1});
  EXPECT_GT(head.accuracy_drop->value, 0.5);
  EXPECT_TRUE(head.drop_elsewhere && head.map.entropy && !head.map.gather);
  EXPECT_FALSE(head.drop_reading_segments || head.drop_in_segments);
}

TEST(FindGatherAggregate, RefinesChannelsThatMatterAlone) {
  FindOptions options;
  options.mamba1_groups = 2;
  const auto objective = objective_of(last_token_examples());
  const LanguageModel model = channel_model();
  const FindResult refined = find_gather_aggregate(model, *objective, options);
  EXPECT_EQ(refined.base.accuracy.value, 1);
  // 0-7 matters, but neither 0-3 nor 4-7 does alone; of 8-15 only channel 11 does.
  const std::vector<HeadId> expected = {
      {0, 0, 7}, {0, 8, 9}, {0, 10, 10}, {0, 11, 11}, {0, 12, 15}};
  std::vector<HeadId> heads;
  for (const HeadScore& s : refined.heads) heads.push_back(s.head);
  EXPECT_EQ(heads, expected);
  for (const HeadScore& s : refined.heads) {
    const bool matters = s.head.first == 0 || s.head.first == 11;
    EXPECT_NEAR(s.accuracy_drop->value, matters ? 1.0 / 3 : 0, 1e-12) << s.head.first;
    EXPECT_EQ(s.drop_at_query.has_value(), matters);
    if (matters) {
      EXPECT_EQ(s.drop_at_query, s.accuracy_drop->value);  // it has no memory
    }
    EXPECT_EQ(s.kind, "mamba1");
  }
  options.refine_channels = false;
  EXPECT_EQ(find_gather_aggregate(model, *objective, options).heads.size(), 2u);
}

// Whatever the groups, every channel is in one entry.
TEST(FindGatherAggregate, RefinedGroupsPartitionTheChannels) {
  const auto objective = objective_of(last_token_examples());
  for (const int64_t groups : {1, 3, 5, 16}) {
    FindOptions options;
    options.mamba1_groups = groups;
    const FindResult result = find_gather_aggregate(channel_model(), *objective, options);
    std::vector<int64_t> entries(16, 0);
    for (const HeadScore& s : result.heads) {
      for (int64_t c = s.head.first; c <= s.head.last; ++c) ++entries[static_cast<size_t>(c)];
    }
    EXPECT_EQ(entries, std::vector<int64_t>(16, 1));
    EXPECT_NEAR(score_of(result, {0, 11, 11}).accuracy_drop->value, 1.0 / 3, 1e-12);
  }
}

class FindPartsTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, FindPartsTest,
                         ::testing::Values("nemotron_h", "falcon_h1", "zamba2"));

TEST_P(FindPartsTest, EqualsItsParts) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  std::vector<std::string> stages;
  FindOptions options;
  options.sweep.mode = AblationMode::Mean;
  options.sweep.placement = Placement::PreNorm;
  options.progress = [&](const char* stage, int64_t, int64_t) {
    if (stages.empty() || stages.back() != stage) stages.emplace_back(stage);
  };
  const FindResult result = find_gather_aggregate(model, *objective, options);
  EXPECT_EQ(result.mode, "mean");
  EXPECT_EQ(result.placement, "pre_norm");
  EXPECT_EQ(stages.front(), "heads");
  EXPECT_EQ(stages.back(), "maps");
  const std::vector<HeadId> heads = all_heads(model.config(), 16);
  const SweepResult swept = ablate_one_by_one(model, *objective, heads, options.sweep);
  const auto figures = map_figures(model, *objective, heads);
  ASSERT_EQ(result.heads.size(), heads.size());
  for (size_t i = 0; i < heads.size(); ++i) {
    EXPECT_EQ(result.heads[i].head, heads[i]);
    EXPECT_EQ(*result.heads[i].accuracy, swept.variants[i].accuracy());
    EXPECT_NEAR(*result.heads[i].logprob_drop, logprob_drop(swept.base, swept.variants[i]), 1e-11);
    EXPECT_EQ(*result.heads[i].near_ties, swept.variants[i].near_ties());
    EXPECT_EQ(result.heads[i].map.gather, figures[i].gather);
    const auto& layer = model.config().layers[static_cast<size_t>(heads[i].layer)];
    EXPECT_EQ(result.heads[i].kind, layer_kind_name(bank_of(layer, heads[i].first).kind));
  }
}

TEST(FindGatherAggregate, KindsOfLayersAndHeadsOfTwoMixers) {
  const ModelSummary summary = describe_model(load_model("zamba2")).model;
  const std::string own = "mamba2", both = "mamba2+attention";
  EXPECT_EQ(summary.layer_kinds, (std::vector<std::string>{own, both, both, own, both, own, both}));
  EXPECT_EQ(summary.head_counts, (std::vector<int64_t>{4, 8, 8, 4, 8, 4, 8}));
  const ModelConfig config = testing::config_of("zamba2");
  EXPECT_EQ(head_kind_name(config, {1, 3, 3}), "mamba2");
  EXPECT_EQ(head_kind_name(config, {1, 4, 4}), "attention");
}

TEST(FindGatherAggregate, DescribesTheModel) {
  const LanguageModel model = load_model("bamba", at::kBFloat16);
  const ModelSummary summary = describe_model(model).model;
  EXPECT_EQ(summary.family, "bamba");
  EXPECT_EQ(summary.layers, 3);
  EXPECT_EQ(summary.d_model, 36);
  EXPECT_EQ(summary.layer_kinds, (std::vector<std::string>{"mamba2", "attention", "mamba2"}));
  EXPECT_EQ(summary.head_counts, (std::vector<int64_t>{6, 3, 6}));
  int64_t parameters = 0;  // of the file: half-precision models keep some of them in float32
  const Checkpoint checkpoint = Checkpoint::open(testing::model_dir("bamba"));
  for (const std::string& name : checkpoint.names()) parameters += checkpoint.tensor(name).numel();
  EXPECT_EQ(summary.parameters, parameters);
}

}  // namespace
}  // namespace headlens
