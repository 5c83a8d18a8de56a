// headlens/tests: activation patching against hooks one cell at a time, and what must hold exactly.
#include "headlens/analysis/patching.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "patching_tools.h"
#include "retrieval_model.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::example_pairs;
using testing::ExamplePairs;
using testing::kFamilies;
using testing::load_model;
using testing::mean_score;
using testing::objective_of;
using testing::PairScore;
using testing::patch_by_hooks;

// Two ways to the same float64 figure differ by the rounding of products of other sizes.
constexpr double kSame = 1e-9;

const std::vector<PatchSite> kTensorSites = {PatchSite::Resid,   PatchSite::MixerOut,
                                             PatchSite::MlpOut,  PatchSite::Z,
                                             PatchSite::Pattern, PatchSite::Map};

bool has_site(const ModelConfig& config, PatchSite site) {
  const bool attention = site == PatchSite::Pattern;
  const bool ssm = site == PatchSite::Map || site == PatchSite::State;
  for (const LayerSpec& layer : config.layers) {
    if (site == PatchSite::MlpOut && layer.mlp) return true;
    for (const HeadBank& bank : head_banks(layer)) {
      const bool is_attention = bank.kind == LayerKind::Attention;
      if (site != PatchSite::MlpOut && (!attention || is_attention) && (!ssm || !is_attention)) {
        return true;
      }
    }
  }
  return false;
}

struct Pair {
  std::unique_ptr<Objective> clean, corrupted;
};
Pair objectives_of(const ExamplePairs& pairs) {
  return {objective_of(pairs.clean), objective_of(pairs.corrupted)};
}

class PatchingOfFamily : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, PatchingOfFamily, ::testing::ValuesIn(kFamilies));

TEST_P(PatchingOfFamily, EqualsHooksOneCellAtATime) {
  const LanguageModel model = load_model(GetParam());
  const ExamplePairs pairs = example_pairs();
  const Pair objectives = objectives_of(pairs);
  const auto groups =
      position_groups(*objectives.clean, *objectives.corrupted, {"right", "last", "all"});
  size_t compared = 0;
  for (const PatchSite site : kTensorSites) {
    if (!has_site(model.config(), site)) continue;
    const bool noising = site == PatchSite::Z || site == PatchSite::Map;
    PatchOptions options;
    options.site = site;
    options.direction = noising ? PatchDirection::Noising : PatchDirection::Denoising;
    options.mamba1_groups = 3;
    options.max_batch_tokens = 200;  // several cells a batch, not all
    const Patching found =
        patch_activations(model, *objectives.clean, *objectives.corrupted, groups, options);
    const size_t stride = 1 + found.cells.size() / 12;  // hooks take a forward an example and cell
    for (size_t c = 0; c < found.cells.size(); c += stride, ++compared) {
      const PatchCell& cell = found.cells[c];
      const PairScore expected = mean_score(pairs.clean.size(), [&](size_t i) {
        const auto& run = noising ? pairs.clean[i] : pairs.corrupted[i];
        const auto& donor = noising ? pairs.corrupted[i] : pairs.clean[i];
        const PositionGroup& group = groups[cell.positions];
        return patch_by_hooks(model, run, donor, pairs.clean[i].answer, pairs.corrupted[i].answer,
                              cell, site,
                              group.everywhere ? std::vector<int64_t>() : group.positions[i]);
      });
      EXPECT_NEAR(cell.patched.logprob.value, expected.logprob, kSame)
          << patch_site_name(site) << " cell " << c;
      EXPECT_NEAR(cell.patched.difference.value, expected.difference, kSame)
          << patch_site_name(site) << " cell " << c;
    }
  }
  EXPECT_GT(compared, 20U);
}

TEST_P(PatchingOfFamily, EverythingAtTheFirstLayerIsTheOtherRun) {
  const LanguageModel model = load_model(GetParam());
  const Pair objectives = objectives_of(example_pairs());
  const auto groups = position_groups(*objectives.clean, *objectives.corrupted, {"all"});
  for (const auto direction : {PatchDirection::Denoising, PatchDirection::Noising}) {
    PatchOptions options;
    options.direction = direction;
    options.layers = {0};
    const Patching found =
        patch_activations(model, *objectives.clean, *objectives.corrupted, groups, options);
    const bool denoising = direction == PatchDirection::Denoising;
    const RunFigures& other = denoising ? found.clean : found.corrupted;
    const double gap = found.clean.difference.value - found.corrupted.difference.value;
    ASSERT_GT(std::abs(gap), 1e-3);
    ASSERT_EQ(found.cells.size(), 1U);
    if (GetParam() == "zamba2") {  // its shared blocks read the run's own embedding again
      EXPECT_NE(found.cells[0].patched.difference.value, other.difference.value);
      continue;
    }
    EXPECT_NEAR(found.cells[0].patched.difference.value, other.difference.value, 1e-12);
    EXPECT_NEAR(found.cells[0].patched.logprob.value, other.logprob.value, 1e-12);
    if (found.cells[0].recovered) {
      EXPECT_NEAR(found.cells[0].recovered->value, denoising ? 1 : 0, 1e-12);
      EXPECT_NEAR(found.cells[0].recovered->high - found.cells[0].recovered->low, 0, 1e-9);
    }
  }
}

TEST_P(PatchingOfFamily, ARunPatchedWithItselfIsUnchanged) {
  const LanguageModel model = load_model(GetParam());
  ExamplePairs pairs = example_pairs();
  for (size_t i = 0; i < pairs.clean.size(); ++i) {
    pairs.corrupted[i].prompt_ids = pairs.clean[i].prompt_ids;
  }
  const Pair objectives = objectives_of(pairs);
  std::vector<PatchSite> sites = kTensorSites;
  sites.push_back(PatchSite::State);
  for (const PatchSite site : sites) {
    if (!has_site(model.config(), site)) continue;
    PatchOptions options;
    options.site = site;
    options.mamba1_groups = 2;
    options.attribution = true;
    const auto groups =
        position_groups(*objectives.clean, *objectives.corrupted, {"right", "wrong_end"});
    const Patching found =
        patch_activations(model, *objectives.clean, *objectives.corrupted, groups, options);
    for (const PatchCell& cell : found.cells) {
      // A map applied row by row and the fused mixer round differently.
      EXPECT_NEAR(cell.difference_change.value, 0, 1e-12) << patch_site_name(site);
      EXPECT_EQ(cell.estimated->value, 0) << patch_site_name(site);
      EXPECT_FALSE(cell.recovered.has_value());
    }
  }
}

/// The circuit by hand (retrieval_model.h): two values of the dictionary exchanged.
ExamplePairs retrieval_pairs() {
  ExamplePairs pairs{testing::retrieval_examples(), {}};
  for (const TokenizedExample& clean : pairs.clean) {
    TokenizedExample corrupted = clean;
    corrupted.answer = (clean.answer + 1) % 4;
    const auto value_of = [&](int64_t pair) -> int64_t& {
      return corrupted
          .prompt_ids[static_cast<size_t>(clean.segments[static_cast<size_t>(pair)].end)];
    };
    std::swap(value_of(clean.answer), value_of(corrupted.answer));
    pairs.corrupted.push_back(std::move(corrupted));
  }
  return pairs;
}

double recovered(const Patching& found, int64_t layer, const std::string& positions,
                 std::optional<HeadId> head = {}) {
  for (const PatchCell& cell : found.cells) {
    const bool own = cell.layer == layer && found.positions[cell.positions] == positions;
    if (own && cell.head == head && cell.recovered) return cell.recovered->value;
  }
  ADD_FAILURE() << "no cell " << layer << " " << positions;
  return 0;
}

TEST(Patching, FindsWhereTheAnswerIsInACircuitMadeByHand) {
  const LanguageModel model = testing::RetrievalModel::make();
  const ExamplePairs pairs = retrieval_pairs();
  const Pair objectives = objectives_of(pairs);
  const auto groups = position_groups(*objectives.clean, *objectives.corrupted,
                                      {"right", "right_end", "wrong", "changed", "last", "all"});
  PatchOptions options;
  const auto patch = [&] {
    return patch_activations(model, *objectives.clean, *objectives.corrupted, groups, options);
  };
  const Patching resid = patch();
  EXPECT_EQ(resid.clean.accuracy.value, 1);
  EXPECT_EQ(resid.corrupted.accuracy.value, 0);
  for (const int64_t layer : {0, 1}) {
    // The copying head reads the value at the pair's end, and at the end alone.
    EXPECT_NEAR(recovered(resid, layer, "right_end"), 1, 0.05);
    EXPECT_NEAR(recovered(resid, layer, "right"), 1, 0.05);
    EXPECT_NEAR(recovered(resid, layer, "wrong"), 0, 0.05);
    EXPECT_NEAR(recovered(resid, layer, "last"), 0, 0.05);
    EXPECT_NEAR(recovered(resid, layer, "changed"), 1, 0.05);
  }
  options.site = PatchSite::Z;
  const Patching z = patch();
  EXPECT_NEAR(recovered(z, 1, "last", HeadId{1, 0, 0}), 1, 1e-9);
  EXPECT_NEAR(recovered(z, 1, "last", HeadId{1, 1, 1}), 0, 1e-9);
  EXPECT_NEAR(recovered(z, 0, "all", HeadId{0, 1, 1}), 0, 0.05);  // it tells keys, not values
  options.site = PatchSite::Pattern;
  options.direction = PatchDirection::Noising;
  const Patching pattern = patch();  // the keys stand where they stood
  EXPECT_NEAR(recovered(pattern, 1, "all", HeadId{1, 0, 0}), 1, 0.05);
}

TEST(Patching, PositionsByWords) {
  const Pair objectives = objectives_of(example_pairs());
  const auto groups = position_groups(
      *objectives.clean, *objectives.corrupted,
      {"last", "right", "wrong", "right_end", "ends", "changed", "between", "segment", "token"});
  const auto of = [&](const std::string& name, size_t example) {
    for (const PositionGroup& group : groups) {
      if (group.name == name) return group.positions[example];
    }
    return std::vector<int64_t>{-1};
  };
  using Positions = std::vector<int64_t>;
  EXPECT_EQ(of("last", 0), Positions{8});
  EXPECT_EQ(of("right", 0), (Positions{1, 2}));
  EXPECT_EQ(of("wrong", 0), (Positions{4, 5}));
  EXPECT_EQ(of("right_end", 2), Positions{3});
  EXPECT_EQ(of("ends", 0), (Positions{2, 3, 5}));
  EXPECT_EQ(of("changed", 1), (Positions{1, 2, 5}));
  EXPECT_EQ(of("between", 0), (Positions{6, 7}));
  EXPECT_EQ(of("segment 2", 2), (Positions{4, 5}));
  EXPECT_EQ(of("token -1", 2), Positions{10});
  EXPECT_EQ(of("token -8", 1), Positions{0});
  EXPECT_EQ(groups.size(), 7U + 3U + 8U);
}

TEST(Patching, SaysWhatItCannotDo) {
  const LanguageModel model = load_model("llama");
  ExamplePairs pairs = example_pairs();
  Pair objectives = objectives_of(pairs);
  const auto words = [&](const std::vector<std::string>& w) {
    return position_groups(*objectives.clean, *objectives.corrupted, w);
  };
  const auto patch = [&](const PatchOptions& options) {
    patch_activations(model, *objectives.clean, *objectives.corrupted, words({"last"}), options);
  };
  EXPECT_EQ(error_message<UsageError>([&] { words({"first"}); }),
            "[patch] positions, expected one of all, last, token, segment, right, wrong, "
            "right_end, wrong_end, ends, changed, between, got 'first'");
  EXPECT_EQ(error_message<UsageError>([&] { patch({.site = PatchSite::State}); }),
            "[patch] site state, expected a layer that has it, got none");
  EXPECT_EQ(error_message<HookError>([&] { patch({.layers = {9}}); }),
            "[patch] layer, expected 0 to 2, got 9");
  EXPECT_EQ(error_message<UsageError>([&] {
              patch({.heads = {{0, 1, 1}}});
            }),
            "[patch] heads, expected none at site resid, got some");
  EXPECT_EQ(error_message<UsageError>([&] { patch({.max_batch_tokens = 0}); }),
            "[patch] tokens a batch, expected at least 1, got 0");
  const LanguageModel hybrid = load_model("falcon_h1");
  EXPECT_EQ(error_message<HookError>([&] {
              patch_activations(hybrid, *objectives.clean, *objectives.corrupted, words({"last"}),
                                {.site = PatchSite::Pattern, .heads = {{0, 2, 2}}});
            }),
            "[patch] head 0.2, expected one of an attention mixer for site pattern, got one of "
            "mamba2");
  EXPECT_EQ(error_message<UsageError>([&] {
              patch_activations(hybrid, *objectives.clean, *objectives.corrupted, words({"last"}),
                                {.site = PatchSite::State});
            }),
            "[patch] positions 'last' of site state, expected some with a token of the prompt "
            "behind them, got the last one in example 0");
  pairs.corrupted[1].prompt_ids.push_back(3);
  objectives = objectives_of(pairs);
  EXPECT_EQ(error_message<ShapeError>([&] {
              patch_activations(model, *objectives.clean, *objectives.corrupted, {{"last"}});
            }),
            "[patch] tokens of corrupted prompt 1, expected 8 as in the clean one, got 9");
  pairs = example_pairs();
  pairs.clean[2].segments.clear();
  objectives = objectives_of(pairs);
  EXPECT_EQ(error_message<TaskError>([&] { words({"right"}); }),
            "[patch] positions 'right', expected some in every example, got none in example 2");
}

}  // namespace
}  // namespace headlens
