// headlens/tests: circuits against every set there is, and against joint ablations one at a time.
#include "headlens/analysis/circuit_search.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "retrieval_model.h"

namespace headlens {
namespace {

using testing::channel_model;
using testing::error_message;
using testing::kFamilies;
using testing::last_token_examples;
using testing::load_model;
using testing::objective_of;
using testing::retrieval_examples;
using testing::RetrievalModel;
using testing::unlike_examples;

using HeadIds = std::vector<HeadId>;

TEST(CircuitSearch, FindsTheCircuitWrittenByHand) {
  const LanguageModel model = RetrievalModel::make();
  const CircuitResult found = circuit_search(model, *objective_of(retrieval_examples(), 50));
  const HeadIds both = {{0, 1, 1}, {1, 0, 0}};
  EXPECT_EQ(found.candidates.size(), 8u);
  EXPECT_EQ(found.base.accuracy.value, 1);
  EXPECT_EQ(found.base.share, 1);
  EXPECT_LT(found.without.accuracy.value, 0.5);
  EXPECT_EQ(found.without.share, 0);
  EXPECT_EQ(found.only_candidates.share, 1);
  EXPECT_EQ(found.removal.heads, both);
  EXPECT_EQ(found.removal.steps.size(), 6u);  // six heads do nothing
  for (const CircuitStep& step : found.removal.steps) EXPECT_EQ(step.figures.share, 1);
  EXPECT_EQ(found.carries.heads, both);
  EXPECT_TRUE(found.carries.reached && found.carries.proved);
  EXPECT_EQ(found.carries.figures.accuracy.value, 1);
  // Either alone breaks it.
  EXPECT_EQ(found.cutting.steps.size(), 1u);
  ASSERT_EQ(found.breaks.heads.size(), 1u);
  EXPECT_TRUE(found.breaks.heads[0] == both[0] || found.breaks.heads[0] == both[1]);
  EXPECT_TRUE(found.breaks.proved);
}

// Channels 1 and 6 stand in for each other, 11 has no other: no single cut of 1 or 6 is seen.
TEST(CircuitSearch, FindsHeadsThatStandInForEachOther) {
  CircuitOptions options;
  for (const int64_t channel : {0, 1, 6, 11}) options.heads.push_back({0, channel, channel});
  options.scope = CircuitScope::Layers;
  options.break_share = 0.01;
  const CircuitResult found =
      circuit_search(channel_model(), *objective_of(last_token_examples()), options);
  EXPECT_EQ(found.carries.heads.size(), 2u);  // 11 and one of the two
  EXPECT_TRUE(found.carries.proved);
  EXPECT_EQ(found.breaks.heads, (HeadIds{{0, 1, 1}, {0, 6, 6}, {0, 11, 11}}));
  EXPECT_TRUE(found.breaks.proved);
  options.break_share = 0.5;
  EXPECT_EQ(circuit_search(channel_model(), *objective_of(last_token_examples()), options)
                .breaks.heads.size(),
            1u);  // half of what heads tell is gone without 11
}

/// What a task does with a set kept or cut, by the joint ablation.
class PlainSets {
 public:
  PlainSets(const LanguageModel& model, const Objective& objective)
      : model_(model), objective_(objective), everything_(all_heads(model.config(), 2)) {}

  double logprob(const HeadIds& set, bool keep) const {
    HeadIds cut = set;
    if (keep) {
      cut = everything_;
      for (const HeadId& head : set) std::erase(cut, head);
    }
    std::set<std::pair<int64_t, int64_t>> name;
    for (const HeadId& head : cut) name.emplace(head.layer, head.first);
    const auto [known, fresh] = known_.emplace(name, 0);
    if (fresh) known->second = run(cut);
    return known->second;
  }
  double share(const HeadIds& set, bool keep) const {
    const double none = logprob({}, true), all = logprob({}, false);
    return (logprob(set, keep) - none) / (all - none);
  }

 private:
  double run(const HeadIds& cut) const {
    if (cut.empty()) return ablation_sweep(model_, objective_, {}).base.mean_logprob();
    return ablate_jointly(model_, objective_, cut, false).variants[0].mean_logprob();
  }

  mutable std::map<std::set<std::pair<int64_t, int64_t>>, double> known_;  // by what is cut
  const LanguageModel& model_;
  const Objective& objective_;
  HeadIds everything_;
};

/// Examples asking for the token that the model's heads say most for.
std::vector<TokenizedExample> answered_examples(const LanguageModel& model) {
  std::vector<TokenizedExample> examples = unlike_examples();
  HeadList all;
  for (const HeadId& head : all_heads(model.config(), 1)) {
    all.push_back({head.layer, head.first, head.last});
  }
  const InterventionPtr cut = zero_heads(model.config(), all);
  for (TokenizedExample& example : examples) {
    const Tensor ids = at::tensor(example.prompt_ids, at::kLong).unsqueeze(0);
    const auto logprobs = [&](Tap* tap) {
      return model.forward(ids, {.tap = tap})[0][-1].log_softmax(-1);
    };
    const int64_t best = (logprobs(nullptr) - logprobs(cut.get())).argmax().item<int64_t>();
    example.choice_ids = {{best}, {(best + 7) % 97}};
    example.answer = 0;
  }
  return examples;
}

class CircuitTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, CircuitTest, ::testing::Values("llama", "mamba", "falcon_h1"));

TEST_P(CircuitTest, EqualsEverySetTriedByJointAblation) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(answered_examples(model));
  CircuitOptions options;
  options.measure = CircuitMeasure::LogProb;
  options.mamba1_groups = 2;
  options.candidates = 4;
  options.carry_share = 0.6;
  options.break_share = 0.4;
  const CircuitResult found = circuit_search(model, *objective, options);
  const PlainSets plain(model, *objective);
  HeadIds names;
  for (const Candidate& candidate : found.candidates) names.push_back(candidate.head);
  ASSERT_EQ(names.size(), 4u);
  std::map<bool, size_t> smallest = {{true, 99}, {false, 99}};  // kept, cut
  for (unsigned members = 1; members < 16; ++members) {
    HeadIds set;
    for (unsigned i = 0; i < 4; ++i) {
      if ((members >> i & 1U) != 0) set.push_back(names[i]);
    }
    if (plain.share(set, true) >= 0.6) smallest[true] = std::min(smallest[true], set.size());
    if (plain.share(set, false) <= 0.4) smallest[false] = std::min(smallest[false], set.size());
  }
  const auto expect = [&](const SmallestSet& set, bool keep) {
    EXPECT_TRUE(set.proved);
    EXPECT_EQ(set.reached, smallest[keep] < 99);
    if (!set.reached) return;
    EXPECT_EQ(set.heads.size(), smallest[keep]);
    EXPECT_NEAR(set.figures.share, plain.share(set.heads, keep), 1e-9);
  };
  expect(found.carries, true);
  expect(found.breaks, false);
  const auto expect_steps = [&](const HeadSet& set, bool keep) {
    HeadIds heads;
    HeadIds left = names;
    for (const CircuitStep& step : set.steps) {
      double best = keep ? -1e9 : 1e9;
      for (const HeadId& head : left) {
        HeadIds more = heads;
        more.push_back(head);
        best = keep ? std::max(best, plain.share(more, keep))
                    : std::min(best, plain.share(more, keep));
      }
      heads.push_back(step.head);
      std::erase(left, step.head);
      EXPECT_NEAR(step.figures.share, best, 1e-9);
      EXPECT_NEAR(step.figures.share, plain.share(heads, keep), 1e-9);
      EXPECT_NEAR(step.figures.mean_logprob, plain.logprob(heads, keep), 1e-11);
    }
  };
  expect_steps(found.addition, true);
  expect_steps(found.cutting, false);
  HeadIds kept = names;
  for (const CircuitStep& step : found.removal.steps) {
    double best = -1e9;
    for (const HeadId& head : kept) {
      HeadIds less = kept;
      std::erase(less, head);
      best = std::max(best, plain.share(less, true));
    }
    std::erase(kept, step.head);
    EXPECT_NEAR(step.figures.share, best, 1e-9);
    EXPECT_GE(step.figures.share, 0.6);
  }
}

TEST_P(CircuitTest, ScopeOfLayersLeavesTheOthersAlone) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(answered_examples(model));
  CircuitOptions options;
  options.measure = CircuitMeasure::LogProb;
  options.heads = {all_heads(model.config(), 2).back()};
  options.scope = CircuitScope::Layers;
  options.sweep.mode = AblationMode::Mean;
  const auto layer = options.heads[0].layer;
  const int64_t count = head_count(model.config().layers[static_cast<size_t>(layer)]);
  SweepOptions sweep;
  sweep.mode = AblationMode::Mean;
  const auto cut = [&](const HeadIds& heads, bool keep) {
    return ablate_jointly(model, *objective, heads, keep, sweep).variants[0].mean_logprob();
  };
  const double without = cut({{layer, 0, count - 1}}, false);
  const double base = ablation_sweep(model, *objective, {}).base.mean_logprob();
  if (without >= base) {
    EXPECT_THROW(circuit_search(model, *objective, options), TaskError);
    return;
  }
  const CircuitResult found = circuit_search(model, *objective, options);
  EXPECT_NEAR(found.without.mean_logprob, without, 1e-11);
  EXPECT_NEAR(found.only_candidates.mean_logprob, cut(options.heads, true), 1e-11);
}

TEST(CircuitSearch, CandidatesAreTheStrongestHeads) {
  const LanguageModel model = RetrievalModel::make();
  const auto objective = objective_of(retrieval_examples(), 50);
  CircuitOptions options;
  options.candidates = 2;
  const std::vector<Candidate> strongest = strongest_heads(model, *objective, options);
  ASSERT_EQ(strongest.size(), 2u);
  const SweepResult single = ablation_sweep(model, *objective, {{0, 1, 1}, {1, 0, 0}});
  for (const Candidate& candidate : strongest) {
    const bool first = candidate.head == HeadId{0, 1, 1};
    EXPECT_TRUE(first || candidate.head == (HeadId{1, 0, 0}));
    const SweepOutcome& cut = single.variants[first ? 0 : 1];
    EXPECT_NEAR(candidate.accuracy_drop.value, accuracy_drop(single.base, cut).value, 1e-12);
    EXPECT_NEAR(candidate.logprob_drop.value, logprob_drop(single.base, cut), 1e-9);
  }
  // One candidate cannot carry it, and says so.
  options.candidates = 1;
  const CircuitResult one = circuit_search(model, *objective, options);
  EXPECT_FALSE(one.carries.reached || one.removal.reached || one.addition.reached);
  EXPECT_TRUE(one.carries.proved && one.breaks.reached);
  options.candidates = 8;
  options.exhaustive_sets = 8;  // sets of one head, not of two
  EXPECT_TRUE(circuit_search(model, *objective, options).carries.proved);
  options.exhaustive_sets = 7;
  EXPECT_FALSE(circuit_search(model, *objective, options).carries.proved);
}

TEST(CircuitSearch, RefusesWhatItCannotDo) {
  const LanguageModel model = RetrievalModel::make();
  const auto objective = objective_of(retrieval_examples(), 50);
  const auto refused = [&](const std::function<void(CircuitOptions&)>& change) {
    CircuitOptions options;
    change(options);
    return error_message<UsageError>([&] { circuit_search(model, *objective, options); });
  };
  EXPECT_EQ(refused([](auto& o) { o.carry_share = 1.5; }),
            "[circuit] shares to carry and to break, expected 0 to 1, got 1.5 and 0.2");
  EXPECT_EQ(refused([](auto& o) { o.candidates = 0; }),
            "[circuit] candidates, expected at least 1, got 0");
  EXPECT_EQ(refused([](auto& o) {
              o.heads = {{0, 1, 1}, {1, 0, 0}, {0, 1, 1}};
            }),
            "[circuit] head 0.1, expected once, got it twice");
  EXPECT_EQ(refused([](auto& o) { o.sweep.positions = CutPositions::FromQuery; }),
            "[circuit] positions, expected all of them, got some");
  EXPECT_EQ(refused([](auto& o) { o.sweep.mode = AblationMode::Scale; }),
            "[ablate] mode, expected zero, mean or resample, got scale");
  CircuitOptions idle;
  idle.heads = {{0, 2, 2}};
  idle.scope = CircuitScope::Layers;
  idle.sweep.mode = AblationMode::Zero;
  const auto some = retrieval_examples();
  EXPECT_EQ(
      error_message<TaskError>([&] { circuit_search(model, *objective_of({some[0]}), idle); }),
      "[circuit] examples, expected at least 2, got 1");
  EXPECT_EQ(error_message<HookError>([&] {
              CircuitOptions options;
              options.heads = {{0, 4, 4}};
              circuit_search(model, *objective, options);
            }),
            "[ablate] head, expected 0..3 in layer 0, got 4");
}

}  // namespace
}  // namespace headlens
