// headlens/tests: cut heads equal models without those heads' columns, made another way.
#include "headlens/hooks/interventions.h"

#include <gtest/gtest.h>

#include "headlens/hooks/hook_set.h"
#include "hooks/hook_tools.h"

namespace headlens {
namespace {

using testing::changed_model;
using testing::config_of;
using testing::difference;
using testing::load_model;
using testing::message_of;
using testing::model_dir;
using testing::some_ids;
using testing::watch;

Tensor logits_with(const LanguageModel& model, const Tensor& ids,
                   const std::shared_ptr<Intervention>& intervention) {
  HookSet hooks(model.config());
  hooks.add(intervention);
  const Tensor logits = model.forward(ids, {.tap = &hooks});
  hooks.check_all_fired();
  return logits;
}

/// A head of a golden model, and where its columns are in the checkpoint.
struct HeadCase {
  std::string model;
  HeadGroup heads;
  std::string weight;
  int64_t first_column;
  int64_t last_column;
};

class ZeroedHeadTest : public ::testing::TestWithParam<HeadCase> {};

// The output projection is linear: without its columns a head writes nothing.
TEST_P(ZeroedHeadTest, EqualsTheModelWithoutItsColumns) {
  const auto& [name, heads, weight, first, last] = GetParam();
  const LanguageModel model = load_model(name);
  const LanguageModel without = changed_model(
      name, [&](auto& weights) { weights.at(weight).slice(1, first, last + 1).zero_(); });
  const Tensor ids = some_ids(2, 7);
  const Tensor expected = without.forward(ids);
  const Tensor cut = logits_with(model, ids, zero_heads(model.config(), {heads}));
  EXPECT_LT(difference(cut, expected), 1e-12);
  EXPECT_GT(difference(model.forward(ids), expected), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, ZeroedHeadTest,
    ::testing::Values(
        HeadCase{"llama", HeadRef{1, 2}, "model.layers.1.self_attn.o_proj.weight", 24, 35},
        HeadCase{"llama", {0, 0, 1}, "model.layers.0.self_attn.o_proj.weight", 0, 23},
        HeadCase{"mamba", {1, 20, 40}, "backbone.layers.1.mixer.out_proj.weight", 20, 40},
        HeadCase{"falcon_mamba", HeadRef{2, 55}, "backbone.layers.2.mixer.out_proj.weight", 55, 55},
        HeadCase{"mamba2", HeadRef{1, 3}, "backbone.layers.1.mixer.out_proj.weight", 54, 71},
        HeadCase{"llamba", HeadRef{0, 0}, "backbone.layers.0.mixer.out_proj.weight", 0, 9},
        HeadCase{"bamba", HeadRef{1, 1}, "model.layers.1.self_attn.o_proj.weight", 12, 23},
        HeadCase{"bamba", HeadRef{2, 5}, "model.layers.2.mamba.out_proj.weight", 60, 71},
        HeadCase{"jamba", {0, 3, 9}, "model.layers.0.mamba.out_proj.weight", 3, 9},
        HeadCase{"gemma2", HeadRef{1, 1}, "model.layers.1.self_attn.o_proj.weight", 10, 19},
        HeadCase{"gpt_neox", HeadRef{1, 1}, "gpt_neox.layers.1.attention.dense.weight", 12, 23},
        HeadCase{"falcon_h1", HeadRef{1, 3}, "model.layers.1.mamba.out_proj.weight", 18, 23},
        HeadCase{"falcon_h1", HeadRef{1, 8}, "model.layers.1.self_attn.o_proj.weight", 20, 29},
        HeadCase{"zamba2", HeadRef{3, 2}, "model.layers.3.mamba.out_proj.weight", 20, 29},
        HeadCase{"zamba2", {1, 1, 2}, "model.layers.1.mamba_decoder.mamba.out_proj.weight", 10, 29},
        HeadCase{"zamba2", HeadRef{1, 7},
                 "model.layers.1.shared_transformer.self_attn.o_proj.weight", 30, 39},
        HeadCase{"zamba2", HeadRef{4, 4},
                 "model.layers.4.shared_transformer.self_attn.o_proj.weight", 0, 9}),
    [](const auto& info) {
      const HeadGroup& heads = info.param.heads;
      return info.param.model + "_" + std::to_string(heads.layer) + "_" +
             std::to_string(heads.first);
    });

// gated_norm(y silu(gate)) with head 1 of y at 0, by hand: its neighbours grow.
TEST(InterventionsTest, PreNormCutsBeforeTheGatedNorm) {
  const LanguageModel model = load_model("mamba2");
  const Tensor ids = some_ids(2, 7);
  const auto seen = watch(model, ids);
  const std::string m = "blocks.1.mixer.";
  Tensor y = seen[m + "hook_ssm_out"].clone();
  y.select(2, 1).zero_();
  const Tensor gated = y.flatten(2) * at::silu(seen[m + "hook_gate"]);
  const Checkpoint checkpoint = Checkpoint::open(model_dir("mamba2"));
  const auto weight = [&](const std::string& name) {
    return checkpoint.tensor("backbone.layers.1.mixer." + name).to(at::kDouble);
  };
  const double eps = std::get<Mamba2Spec>(*model.config().layers[1].mixer).norm_eps;
  const Tensor normed =
      weight("norm.weight") * gated * at::rsqrt(gated.pow(2).mean(-1, true) + eps);
  const Tensor expected = at::linear(normed, weight("out_proj.weight"), weight("out_proj.bias"));

  const auto cut = zero_heads(model.config(), {HeadRef{1, 1}}, {.placement = Placement::PreNorm});
  testing::Watcher after;
  TapChain chain({cut.get(), &after});
  model.forward(ids, {.tap = &chain});
  EXPECT_LT(difference(after[m + "hook_out"], expected), 1e-12);

  const Tensor pre_norm = logits_with(model, ids, cut);
  const Tensor post_norm = logits_with(model, ids, zero_heads(model.config(), {HeadRef{1, 1}}));
  EXPECT_GT(difference(pre_norm, post_norm), 1e-3);
}

TEST(InterventionsTest, WithoutANormBothPlacementsAreTheSameCut) {
  for (const std::string name : {"llama", "mamba", "llamba"}) {
    const LanguageModel model = load_model(name);
    const Tensor ids = some_ids(2, 5);
    const HeadCutOptions pre_norm{.placement = Placement::PreNorm};
    EXPECT_TRUE(
        at::equal(logits_with(model, ids, zero_heads(model.config(), {HeadRef{1, 1}})),
                  logits_with(model, ids, zero_heads(model.config(), {HeadRef{1, 1}}, pre_norm))))
        << name;
  }
}

TEST(InterventionsTest, TheInterventionIsGoneAfterItsScope) {
  const LanguageModel model = load_model("bamba");
  const Tensor ids = some_ids(2, 5);
  const Tensor before = model.forward(ids);
  HookSet hooks(model.config());
  {
    const auto scope = hooks.scope();
    hooks.add(zero_heads(model.config(), {HeadRef{0, 0}, HeadRef{1, 0}}));
    EXPECT_GT(difference(model.forward(ids, {.tap = &hooks}), before), 1e-4);
    scope.check_all_fired();
  }
  EXPECT_TRUE(at::equal(model.forward(ids, {.tap = &hooks}), before));
  EXPECT_TRUE(at::equal(model.forward(ids), before));
}

TEST(InterventionsTest, KeepCutsAllOthersOfTheLayer) {
  const LanguageModel model = load_model("llama");
  const Tensor ids = some_ids(2, 5);
  const auto kept = zero_heads(model.config(), {HeadRef{1, 2}, HeadRef{1, 0}}, {.keep = true});
  const auto others = zero_heads(model.config(), {HeadRef{1, 1}, HeadRef{1, 3}});
  EXPECT_TRUE(at::equal(logits_with(model, ids, kept), logits_with(model, ids, others)));
  const HeadList expected = {{1, 1, 1}, {1, 3, 3}};
  EXPECT_EQ(other_heads(model.config(), {HeadRef{1, 2}, HeadRef{1, 0}}), expected);
  EXPECT_EQ(other_heads(config_of("mamba"), {{0, 10, 20}}), (HeadList{{0, 0, 9}, {0, 21, 55}}));
}

TEST(InterventionsTest, OnlyAtThePositionsAsked) {
  const LanguageModel model = load_model("mamba2");
  const Tensor ids = some_ids(2, 6);
  const auto cut =
      zero_heads(model.config(), {HeadRef{1, 0}}, {.positions = mask_of_positions(6, {2, -1})});
  const Tensor z = watch(model, ids)["blocks.1.mixer.hook_z"];
  Tensor expected = z.clone();
  for (const int64_t pos : {2, 5}) expected.select(1, pos).select(1, 0).zero_();
  EXPECT_TRUE(at::equal(cut->visit({Site::MixerZ, 1}, z), expected));
  cut->check_touched();
  EXPECT_EQ(message_of<ShapeError>([&] {
              cut->visit({Site::MixerZ, 1}, z.slice(1, 0, 5));
            }),
            "[ablate] positions, expected [pos=5] or [batch=2, pos=5], got [6]");
}

TEST(InterventionsTest, ScaleByOneIsNothingAndByZeroIsZero) {
  const LanguageModel model = load_model("mamba");
  const Tensor ids = some_ids(2, 5);
  const HeadList heads = {{0, 5, 30}};
  EXPECT_TRUE(at::equal(logits_with(model, ids, scale_heads(model.config(), heads, 1)),
                        model.forward(ids)));
  EXPECT_TRUE(at::equal(logits_with(model, ids, scale_heads(model.config(), heads, 0)),
                        logits_with(model, ids, zero_heads(model.config(), heads))));
}

// Activation patching: with another prompt's outputs of all heads, the layer writes what it wrote
// there.
TEST(InterventionsTest, ReplacedByAnotherRunsOutputs) {
  for (const std::string name : {"llama", "mamba"}) {
    const LanguageModel model = load_model(name);
    const Tensor ids = some_ids(2, 5), others = ids.flip(0);
    const TapPoint point = head_output_point(model.config(), 1);
    const int64_t heads = head_count(model.config().layers[1]);
    const auto there = watch(model, others);
    const auto patch =
        replace_heads(model.config(), {{1, 0, heads - 1}}, {{1, there[site_name(point)]}});
    testing::Watcher after;
    TapChain chain({patch.get(), &after});
    model.forward(ids, {.tap = &chain});
    const std::string out = name == "llama" ? "blocks.1.hook_attn_out" : "blocks.1.mixer.hook_out";
    EXPECT_TRUE(at::equal(after[out], there[out])) << name;
  }
}

TEST(InterventionsTest, ResampledFromAnotherRow) {
  const LanguageModel model = load_model("llama");
  const Tensor z = watch(model, some_ids(3, 4))["blocks.0.attn.hook_z"];
  const auto resample =
      resample_heads(model.config(), {HeadRef{0, 3}}, at::tensor({2, 0, 1}, at::kLong));
  const Tensor seen = resample->visit({Site::Z, 0}, z);
  EXPECT_TRUE(at::equal(seen.slice(2, 0, 3), z.slice(2, 0, 3)));
  EXPECT_TRUE(at::equal(seen.select(2, 3), at::stack({z[2], z[0], z[1]}).select(2, 3)));
  EXPECT_THROW(resample->visit({Site::Z, 0}, z.slice(0, 0, 2)), ShapeError);
  EXPECT_EQ(message_of<ShapeError>([&] {
              resample_heads(model.config(), {HeadRef{0, 3}}, at::tensor({0, 3}, at::kLong));
            }),
            "[ablate] rows of the permutation, expected 0..1, got 0..3");
}

TEST(InterventionsTest, VariantsInOneBatchEqualOneByOne) {
  for (const std::string name : {"llama", "mamba", "mamba2", "llamba"}) {
    const LanguageModel model = load_model(name);
    const Tensor ids = some_ids(2, 6);
    const std::vector<HeadList> variants = {{HeadRef{1, 0}}, {}, {{1, 1, 2}}};
    const auto together = zero_variants(model.config(), {{1, variants}});
    const Tensor logits = logits_with(model, ids.repeat({3, 1}), together);
    for (int64_t v = 0; v < 3; ++v) {
      const HeadList& heads = variants[static_cast<size_t>(v)];
      const Tensor alone = heads.empty()
                               ? model.forward(ids)
                               : logits_with(model, ids, zero_heads(model.config(), heads));
      // A larger batch may be multiplied in another order.
      EXPECT_LT(difference(logits.slice(0, 2 * v, 2 * v + 2), alone), 1e-12) << name << v;
    }
  }
}

TEST(InterventionsTest, PositionsOfVariantsAreTheirRows) {
  const LanguageModel model = load_model("llama");
  const Tensor z = watch(model, some_ids(4, 3))["blocks.0.attn.hook_z"];
  const Tensor where = at::tensor({1, 0, 0, 0, 1, 1}, at::kLong).view({2, 3}).to(at::kBool);
  const auto cut = zero_variants(model.config(), {{0, {{HeadRef{0, 0}}, {HeadRef{0, 2}}}}},
                                 {.positions = where});
  Tensor expected = z.clone();
  for (const auto& [row, pos] : {std::pair{0, 0}, {1, 1}, {1, 2}}) {
    expected[row][pos][0].zero_();
    expected[row + 2][pos][2].zero_();
  }
  EXPECT_TRUE(at::equal(cut->visit({Site::Z, 0}, z), expected));
}

TEST(InterventionsTest, GradientsFlowThroughWhatIsLeft) {
  const LanguageModel model = load_model("llama");
  const Tensor z =
      watch(model, some_ids(1, 3))["blocks.0.attn.hook_z"].clone().requires_grad_(true);
  zero_heads(model.config(), {HeadRef{0, 1}})->visit({Site::Z, 0}, z).sum().backward();
  EXPECT_EQ(z.grad().select(2, 1).abs().sum().item<double>(), 0);
  EXPECT_EQ(z.grad().select(2, 0).min().item<double>(), 1);
}

TEST(InterventionsTest, HeadsThatDoNotExist) {
  const auto error = [](const std::string& model, const HeadList& heads) {
    const ModelConfig config = config_of(model);
    return message_of<HookError>([&] { zero_heads(config, heads); });
  };
  EXPECT_EQ(error("llama", {HeadRef{2, 9}}), "[ablate] head, expected 0..3 in layer 2, got 9");
  EXPECT_EQ(error("llama", {HeadRef{2, -1}}), "[ablate] head, expected 0..3 in layer 2, got -1");
  EXPECT_EQ(error("mamba", {{0, 50, 56}}), "[ablate] head, expected 0..55 in layer 0, got 50..56");
  EXPECT_EQ(error("llama", {HeadRef{3, 0}}), "[ablate] layer, expected 0..2, got 3");
  EXPECT_EQ(error("nemotron_h", {HeadRef{1, 0}}),
            "[ablate] layer, expected one with heads, got 1 (MLP only)");
  EXPECT_EQ(error("llama", {}), "[ablate] heads to cut, expected at least one, got none");
}

TEST(InterventionsTest, VariantsThatDoNotFit) {
  const ModelConfig config = config_of("llama");
  const auto error = [&](const std::vector<VariantCuts>& cuts) {
    return message_of<HookError>([&] { zero_variants(config, cuts); });
  };
  EXPECT_EQ(error({{0, {{HeadRef{0, 0}}}}, {1, {{}, {HeadRef{1, 0}}}}}),
            "[ablate] variants of layer 1, expected 1, got 2");
  EXPECT_EQ(error({{0, {{HeadRef{0, 0}}}}, {0, {{HeadRef{0, 1}}}}}),
            "[ablate] layer 0, expected once, got twice");
  EXPECT_EQ(error({{0, {{HeadRef{1, 0}}}}}), "[ablate] layer of a head, expected 0, got 1");
  const auto cut = zero_variants(config, {{0, {{HeadRef{0, 0}}, {HeadRef{0, 1}}}}});
  EXPECT_EQ(message_of<ShapeError>([&] {
              cut->visit({Site::Z, 0}, at::ones({3, 2, 4, 12}));
            }),
            "[ablate] batch, expected a multiple of the 2 variants, got 3");
}

TEST(InterventionsTest, WhatTouchedNothingSaysSo) {
  const LanguageModel model = load_model("llama");
  const auto cut = zero_heads(model.config(), {HeadRef{0, 0}});
  const Tensor resid = model.embed(some_ids(1, 3));
  model.run_layers(resid, 1, 3, cut.get());
  EXPECT_EQ(message_of<HookError>([&] { cut->check_touched(); }),
            "[ablate] blocks.0.attn.hook_z, expected the forward to reach it, got no call");
  model.run_layers(resid, 0, 1, cut.get());
  cut->check_touched();
  cut->reset();
  EXPECT_THROW(cut->check_touched(), HookError);

  const auto nowhere =
      zero_heads(model.config(), {HeadRef{0, 0}}, {.positions = mask_of_positions(3, {})});
  model.run_layers(resid, 0, 1, nowhere.get());
  EXPECT_EQ(
      message_of<HookError>([&] { nowhere->check_touched(); }),
      "[ablate] blocks.0.attn.hook_z, expected the intervention to cover something, got nothing "
      "covered");
}

TEST(InterventionsTest, OutputsThatDoNotFit) {
  const ModelConfig config = config_of("llama");
  EXPECT_EQ(message_of<HookError>([&] {
              replace_heads(config, {HeadRef{1, 0}}, {{0, at::ones({4, 12})}});
            }),
            "[ablate] outputs to put in layer 1, expected a tensor, got none");
  const auto patch = replace_heads(config, {HeadRef{1, 0}}, {{1, at::ones({4, 11})}});
  EXPECT_EQ(message_of<ShapeError>([&] {
              patch->visit({Site::Z, 1}, at::ones({2, 3, 4, 12}));
            }),
            "[ablate] outputs to put in layer 1, expected [4, 12] or [2, 3, 4, 12], got [4, 11]");
}

}  // namespace
}  // namespace headlens
