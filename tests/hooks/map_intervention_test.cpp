// headlens/tests: edits of map entries equal the product with a map that was edited by hand.
#include <gtest/gtest.h>

#include "headlens/hooks/hook_set.h"
#include "hooks/hook_tools.h"

namespace headlens {
namespace {

using testing::config_of;
using testing::difference;
using testing::load_model;
using testing::message_of;
using testing::some_ids;
using testing::watch;
using testing::Watcher;

/// What the model makes at every site with the edit in place.
Watcher watch_edited(const LanguageModel& model, const Tensor& ids, LayerMapEdit edit) {
  MapIntervention intervention(model.config(), {std::move(edit)});
  Watcher after;
  TapChain chain({&intervention, &after});
  model.forward(ids, {.tap = &chain});
  intervention.check_touched();
  return after;
}

// Rows 4 and 6 of heads 1 and 3 stop seeing keys 1 to 3.
MapEdit some_edit() {
  return {.heads = {1, 3},
          .rows = mask_of_positions(7, {4, 6}),
          .keys = mask_of_segments(7, {{1, 3}}),
          .factor = 0,
          .renormalize = false,
          .custom = {}};
}

Tensor edited_by_hand(Tensor map) {
  map = map.clone();
  for (const int64_t head : {1, 3}) {
    for (const int64_t row : {4, 6}) map.select(1, head).select(1, row).slice(1, 1, 4).zero_();
  }
  return map;
}

TEST(MapInterventionTest, KnockOutOfAttentionIsTheEditedPatternTimesV) {
  const LanguageModel model = load_model("llama");  // 4 heads read 2 key heads
  const Tensor ids = some_ids(2, 7);
  const Watcher before = watch(model, ids);
  const Watcher after = watch_edited(model, ids, {1, some_edit()});
  const Tensor v = before["blocks.1.attn.hook_v"].repeat_interleave(2, 2);
  const Tensor pattern = edited_by_hand(before["blocks.1.attn.hook_pattern"]);
  EXPECT_LT(difference(after["blocks.1.attn.hook_z"], at::einsum("bhqk,bkhd->bqhd", {pattern, v})),
            1e-12);
  EXPECT_GT(difference(after["logits"], before["logits"]), 1e-5);
}

TEST(MapInterventionTest, KnockOutOfAStateSpaceMapIsTheEditedMapTimesX) {
  for (const std::string name : {"mamba2", "llamba"}) {
    const LanguageModel model = load_model(name);
    const Tensor ids = some_ids(2, 7);
    const Watcher before = watch(model, ids);
    const Watcher after = watch_edited(model, ids, {1, some_edit()});
    const Tensor x = before["blocks.1.mixer.hook_ssm_input"];
    const Tensor map = edited_by_hand(before["blocks.1.mixer.hook_map"]);
    // Float64; the scan sums by chunks, the product by rows.
    EXPECT_LT(difference(after["blocks.1.mixer.hook_y"], at::einsum("bhqk,bkhd->bqhd", {map, x})),
              1e-10)
        << name;
  }
}

TEST(MapInterventionTest, KnockOutOfChannels) {
  const LanguageModel model = load_model("mamba");
  const Tensor ids = some_ids(2, 7);
  const Watcher before = watch(model, ids);
  const Watcher after = watch_edited(model, ids, {0, some_edit()});
  const Tensor x = before["blocks.0.mixer.hook_ssm_input"];
  const Tensor map = edited_by_hand(before["blocks.0.mixer.hook_map"]);
  EXPECT_LT(difference(after["blocks.0.mixer.hook_y"], at::einsum("bcqk,bkc->bqc", {map, x})),
            1e-10);
}

TEST(MapInterventionTest, AttentionKnockoutBeforeTheSoftmax) {
  const LanguageModel model = load_model("llama");
  const Tensor ids = some_ids(2, 7);
  const Watcher before = watch(model, ids);
  MapEdit edit = some_edit();
  edit.renormalize = true;
  const Watcher after = watch_edited(model, ids, {2, edit});
  const Tensor scores = before["blocks.2.attn.hook_attn_scores"];
  const Tensor hidden = at::ne(edited_by_hand(at::ones_like(scores)), 1);
  const Tensor expected = at::softmax(scores.masked_fill(hidden, -INFINITY), -1);
  EXPECT_LT(difference(after["blocks.2.attn.hook_pattern"], expected), 1e-12);
}

TEST(MapInterventionTest, SeveralLayersAndAFactor) {
  const LanguageModel model = load_model("bamba");
  const Tensor ids = some_ids(1, 6);
  MapEdit doubled;
  doubled.factor = 2;
  MapIntervention intervention(model.config(), {{0, doubled}, {1, doubled}});
  Watcher after;
  TapChain chain({&intervention, &after});
  model.forward(ids, {.tap = &chain});
  intervention.check_touched();
  EXPECT_LT(
      difference(after["blocks.0.mixer.hook_y"], 2 * watch(model, ids)["blocks.0.mixer.hook_y"]),
      1e-10);
}

TEST(MapInterventionTest, ItLivesInAScope) {
  const LanguageModel model = load_model("llama");
  const Tensor ids = some_ids(1, 7);
  const Tensor before = model.forward(ids);
  HookSet hooks(model.config());
  {
    const auto scope = hooks.scope();
    hooks.add(std::make_shared<MapIntervention>(model.config(),
                                                std::vector<LayerMapEdit>{{1, some_edit()}}));
    EXPECT_FALSE(at::equal(model.forward(ids, {.tap = &hooks}), before));
    scope.check_all_fired();
  }
  EXPECT_TRUE(at::equal(model.forward(ids, {.tap = &hooks}), before));
}

TEST(MapInterventionTest, EditsThatCoverNothingSaySo) {
  const LanguageModel model = load_model("llama");
  MapEdit above_the_diagonal = some_edit();
  above_the_diagonal.rows = mask_of_positions(7, {0});
  MapIntervention intervention(model.config(), {{1, above_the_diagonal}});
  EXPECT_EQ(message_of<HookError>([&] { intervention.check_touched(); }),
            "[ablate] blocks.1.attn.hook_pattern, expected the forward to reach it, got no call");
  model.forward(some_ids(1, 7), {.tap = &intervention});
  EXPECT_EQ(
      message_of<HookError>([&] { intervention.check_touched(); }),
      "[ablate] blocks.1.attn.hook_pattern, expected the intervention to cover something, got "
      "nothing covered");
}

TEST(MapInterventionTest, Errors) {
  const ModelConfig config = config_of("nemotron_h");
  const auto error = [&](LayerMapEdit edit) {
    return message_of<HookError>([&] { MapIntervention(config, {std::move(edit)}); });
  };
  EXPECT_EQ(error({1, {}}), "[map] layer, expected one with a mixer, got 1 (MLP only)");
  EXPECT_EQ(error({2, some_edit()}), "no error");
  MapEdit head_9 = some_edit();
  head_9.heads = {9};
  EXPECT_EQ(error({2, head_9}), "[ablate] head, expected 0..3 in layer 2, got 9");
  EXPECT_THROW(MapIntervention(config, {}), HookError);
}

TEST(MaskTest, PositionsAndSegments) {
  EXPECT_TRUE(
      at::equal(mask_of_positions(4, {0, -1}), at::tensor({1, 0, 0, 1}, at::kLong).to(at::kBool)));
  EXPECT_TRUE(at::equal(mask_of_segments(5, {{1, 2}, {4, 4}}),
                        at::tensor({0, 1, 1, 0, 1}, at::kLong).to(at::kBool)));
  EXPECT_THROW(mask_of_positions(4, {4}), ShapeError);
  EXPECT_THROW(mask_of_segments(4, {{2, 1}}), ShapeError);
}

}  // namespace
}  // namespace headlens
