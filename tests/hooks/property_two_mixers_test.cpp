// headlens/tests: interventions in layers of two mixers, by the numbers of the layer.
#include <gtest/gtest.h>

#include "headlens/hooks/hook_set.h"
#include "headlens/hooks/mean_activations.h"
#include "hooks/hook_tools.h"

namespace headlens {
namespace {

using testing::changed_model;
using testing::config_of;
using testing::difference;
using testing::load_model;
using testing::message_of;
using testing::some_ids;
using testing::watch;
using testing::Watcher;

/// What the model makes at every site under an intervention that must have touched something.
Watcher watch_with(const LanguageModel& model, const Tensor& ids, Intervention& intervention) {
  Watcher after;
  TapChain chain({&intervention, &after});
  model.forward(ids, {.tap = &chain});
  intervention.check_touched();
  return after;
}

int64_t count_of(const LanguageModel& model, int64_t layer) {
  return head_count(model.config().layers[static_cast<size_t>(layer)]);
}

class TwoMixersTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, TwoMixersTest, ::testing::ValuesIn(testing::kTwoMixers));

// Heads up to the first of the attention and from there on, in one group.
TEST_P(TwoMixersTest, AGroupOverBothIsBothWithoutTheirColumns) {
  const LanguageModel model = load_model(GetParam()),
                      without = changed_model(GetParam(), [](auto&) {});
  const Tensor ids = some_ids(2, 7);
  const int64_t first = head_banks(model.config().layers[1])[1].first;
  for (const int64_t head : {first - 1, first}) without.head_output_weight(1, head).zero_();
  const Tensor cut =
      watch_with(model, ids, *zero_heads(model.config(), {{1, first - 1, first}}))["logits"];
  EXPECT_LT(difference(cut, without.forward(ids)), 1e-12);
  EXPECT_GT(difference(cut, model.forward(ids)), 1e-3);
}

TEST_P(TwoMixersTest, EveryHeadAloneIsTheModelWithoutItsColumns) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 7), before = model.forward(ids);
  for (int64_t head = 0; head < count_of(model, 1); ++head) {
    const LanguageModel without = changed_model(GetParam(), [](auto&) {});
    without.head_output_weight(1, head).zero_();
    const Tensor cut =
        watch_with(model, ids, *zero_heads(model.config(), {HeadRef{1, head}}))["logits"];
    EXPECT_LT(difference(cut, without.forward(ids)), 1e-12) << head;
    EXPECT_GT(difference(cut, before), 1e-4) << head;
  }
}

TEST_P(TwoMixersTest, VariantsInOneBatchEqualOneByOne) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 6);
  std::vector<HeadList> variants = {{}};
  for (int64_t head = 0; head < count_of(model, 1); ++head) variants.push_back({HeadRef{1, head}});
  const int64_t count = std::ssize(variants);
  const auto together = zero_variants(model.config(), {{1, variants}});
  const Tensor logits = watch_with(model, ids.repeat({count, 1}), *together)["logits"];
  for (int64_t v = 0; v < count; ++v) {
    const HeadList& heads = variants[static_cast<size_t>(v)];
    const Tensor alone = heads.empty()
                             ? model.forward(ids)
                             : watch_with(model, ids, *zero_heads(model.config(), heads))["logits"];
    // A larger batch may be multiplied in another order.
    EXPECT_LT(difference(logits.slice(0, 2 * v, 2 * v + 2), alone), 1e-12) << v;
  }
}

TEST_P(TwoMixersTest, KeepCutsAllOthersOfBothMixers) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 5);
  const int64_t first = head_banks(model.config().layers[1])[1].first,
                last = count_of(model, 1) - 1;
  const HeadList others = {{1, 0, first - 2}, {1, first + 1, last}};
  EXPECT_EQ(other_heads(model.config(), {{1, first - 1, first}}), others);
  const auto kept = zero_heads(model.config(), {{1, first - 1, first}}, {.keep = true});
  const auto cut = zero_heads(model.config(), others);
  EXPECT_TRUE(
      at::equal(watch_with(model, ids, *kept)["logits"], watch_with(model, ids, *cut)["logits"]));
}

// Activation patching: with another prompt's outputs of all heads, both mixers write what they
// wrote there.
TEST_P(TwoMixersTest, ReplacedByAnotherRunsOutputs) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 5);
  const Watcher there = watch(model, ids.flip(0));
  HeadOutputs outputs;
  for (const TapPoint point : head_output_points(model.config(), 1)) {
    outputs[point] = there[site_name(point)];
  }
  const HeadList all = {{1, 0, count_of(model, 1) - 1}};
  const Watcher after = watch_with(model, ids, *replace_heads(model.config(), all, outputs));
  for (const std::string name : {"blocks.1.hook_attn_out", "blocks.1.mixer.hook_out"}) {
    EXPECT_TRUE(at::equal(after[name], there[name])) << name;
  }
}

TEST_P(TwoMixersTest, ResampledFromAnotherRow) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 5);
  const int64_t head = head_banks(model.config().layers[1])[1].first + 2;  // attention's third
  const auto cut =
      resample_heads(model.config(), {HeadRef{1, head}}, at::tensor({1, 0}, at::kLong));
  const Tensor z = watch(model, ids)["blocks.1.attn.hook_z"];
  Tensor expected = z.clone();
  expected.select(2, 2).copy_(z.flip(0).select(2, 2));
  EXPECT_TRUE(at::equal(watch_with(model, ids, *cut)["blocks.1.attn.hook_z"], expected));
  EXPECT_FALSE(cut->wants({Site::MixerZ, 1}));
}

/// A map with rows 4 and 6 of one head blind for keys 1 to 3.
Tensor edited_by_hand(const Tensor& map, int64_t head) {
  Tensor edited = map.clone();
  for (const int64_t row : {4, 6}) edited.select(1, head).select(1, row).slice(1, 1, 4).zero_();
  return edited;
}

TEST_P(TwoMixersTest, MapsAreEditedByTheNumbersOfTheLayer) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 7);
  const auto banks = head_banks(model.config().layers[1]);
  MapEdit edit;
  edit.heads = {2, banks[1].first + 1};
  edit.rows = mask_of_positions(7, {4, 6});
  edit.keys = mask_of_segments(7, {{1, 3}});
  MapIntervention knock_out(model.config(), {{1, edit}});
  const Watcher before = watch(model, ids), after = watch_with(model, ids, knock_out);
  const Tensor own = edited_by_hand(before["blocks.1.mixer.hook_map"], 2);
  const bool side_by_side = model.config().layers[1].wiring == Wiring::ParallelMixers;
  if (side_by_side) {  // in Zamba2 the mixer reads what the edited attention wrote
    EXPECT_LT(difference(after["blocks.1.mixer.hook_map"], own), 1e-12);
  }
  const Tensor pattern = edited_by_hand(before["blocks.1.attn.hook_pattern"], 1);
  EXPECT_LT(difference(after["blocks.1.attn.hook_pattern"], pattern), 1e-12);
  edit.heads = {banks[1].first + 1};
  EXPECT_FALSE(MapIntervention(model.config(), {{1, edit}}).wants_map({Site::Map, 1}));
  edit.heads = {};
  MapIntervention of_all(model.config(), {{1, edit}});
  EXPECT_TRUE(of_all.wants_map({Site::Map, 1}) && of_all.wants_map({Site::Pattern, 1}));
}

TEST_P(TwoMixersTest, CustomEditsAreToldTheNumbersOfTheLayer) {
  const LanguageModel model = load_model(GetParam());
  std::set<int64_t> told;
  MapEdit edit;
  edit.custom = [&](Tensor rows, const MapBlock& block) {
    told.insert(block.heads.begin(), block.heads.end());
    return rows;
  };
  MapIntervention intervention(model.config(), {{1, edit}});
  model.forward(some_ids(1, 5), {.tap = &intervention});
  EXPECT_EQ(std::ssize(told), count_of(model, 1));
  EXPECT_EQ(*told.rbegin(), count_of(model, 1) - 1);
}

TEST(TwoMixersPointsTest, OneForEachMixer) {
  const ModelConfig config = config_of("falcon_h1");  // 6 Mamba-2 heads, 4 of attention
  using Points = std::vector<TapPoint>;
  EXPECT_EQ(head_output_points(config, 1), (Points{{Site::MixerZ, 1}, {Site::Z, 1}}));
  EXPECT_EQ(head_output_points(config, 1, Placement::PreNorm),
            (Points{{Site::SsmOut, 1}, {Site::Z, 1}}));
  EXPECT_EQ(head_output_point(config, 0, 5), (TapPoint{Site::MixerZ, 0}));
  EXPECT_EQ(head_output_point(config, 0, 6), (TapPoint{Site::Z, 0}));
  EXPECT_EQ(head_output_point(config, 0, 5, Placement::PreNorm), (TapPoint{Site::SsmOut, 0}));
}

TEST(TwoMixersPointsTest, Errors) {
  const ModelConfig config = config_of("falcon_h1");
  const auto error = [](const auto& act) { return message_of<HookError>([&] { act(); }); };
  EXPECT_EQ(error([&] { head_output_point(config, 1); }),
            "[ablate] layer 1, expected one mixer, got 2 (mamba2+attention)");
  EXPECT_EQ(error([&] { head_output_point(config, 1, 10); }),
            "[ablate] head, expected 0..9 in layer 1, got 10");
  EXPECT_EQ(error([&] {
              zero_heads(config, {HeadRef{1, 10}});
            }),
            "[ablate] head, expected 0..9 in layer 1, got 10");
  const std::map<int64_t, Tensor> by_layer = {{1, at::ones({6, 6})}};
  EXPECT_EQ(error([&] {
              replace_heads(config, {HeadRef{1, 0}}, by_layer);
            }),
            "[ablate] layer 1, expected one mixer, got 2 (mamba2+attention)");
  const HeadOutputs of_mamba = {{{Site::MixerZ, 1}, at::ones({6, 6})}};
  EXPECT_EQ(error([&] { replace_heads(config, {HeadRef{1, 0}}, of_mamba); }), "no error");
  EXPECT_EQ(error([&] {
              replace_heads(config, {{1, 5, 6}}, of_mamba);
            }),
            "[ablate] outputs to put in blocks.1.attn.hook_z, expected a tensor, got none");
}

}  // namespace
}  // namespace headlens
