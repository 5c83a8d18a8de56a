// headlens/tests: streamed figures of every layer's map equal those of the dense map.
#include "headlens/hooks/reducers.h"

#include <gtest/gtest.h>

#include "headlens/hooks/recorder.h"
#include "hooks/hook_tools.h"

namespace headlens {
namespace {

using testing::config_of;
using testing::difference;
using testing::kFamilies;
using testing::load_model;
using testing::message_of;
using testing::some_ids;
using testing::watch;

class MapReducerFamilyTest : public ::testing::TestWithParam<std::string> {};

TEST_P(MapReducerFamilyTest, EntropyOfEveryMapFromItsDefinition) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 9);
  const auto seen = watch(model, ids);
  MapReducer reducer(model.config(), MapReduceOptions{.row_block = 4});
  model.forward(ids, {.tap = &reducer});
  reducer.check_complete();
  for (const auto& mixer : testing::mixers_of(model.config())) {
    const Tensor map = seen[site_name(mixer.map)].abs();
    const Tensor p = map / map.sum(-1, true);
    const Tensor expected = -(p * p.clamp_min(1e-300).log()).sum(-1);  // 0 ln 0 = 0
    const MapStats& stats = reducer.stats(mixer.map);
    EXPECT_LT(difference(stats.entropy, expected), 1e-9) << mixer.layer;
    EXPECT_LT(difference(stats.row_mass, map.sum(-1)), 1e-9) << mixer.layer;
    EXPECT_EQ(stats.entropy.size(1), mixer.bank.count);
    if (head_banks(model.config().layers[static_cast<size_t>(mixer.layer)]).size() > 1) continue;
    EXPECT_TRUE(reducer.stats(mixer.layer).entropy.is_same(stats.entropy));
  }
}

TEST_P(MapReducerFamilyTest, AsksForNothingDense) {
  const ModelConfig config = config_of(GetParam());
  const MapReducer reducer(config, MapReduceOptions{});
  for (const SiteInfo& info : sites_of(config)) EXPECT_FALSE(reducer.wants(info.point));
}

INSTANTIATE_TEST_SUITE_P(Families, MapReducerFamilyTest, ::testing::ValuesIn(kFamilies),
                         [](const auto& info) { return info.param; });

TEST(MapReducerTest, OptionsByLayer) {
  const LanguageModel model = load_model("bamba");
  const auto options = [](TapPoint point) {
    return MapReduceOptions{
        .rows = at::tensor({-1}, at::kLong) + 6, .heads = {0}, .top_k = point.layer};
  };
  MapReducer reducer(model.config(), options, {1, 2});
  model.forward(some_ids(1, 6), {.tap = &reducer});
  EXPECT_EQ(reducer.layers(), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(reducer.stats(1).top_keys.sizes(), (std::vector<int64_t>{1, 1, 1, 1}));
  EXPECT_EQ(reducer.stats(2).top_keys.size(-1), 2);
}

TEST(MapReducerTest, OutsideTheGraphUnlessAsked) {
  const LanguageModel model = load_model("llama");
  const Tensor resid = model.embed(some_ids(1, 4)).detach().requires_grad_(true);
  MapReducer reducer(model.config(), MapReduceOptions{}, {0});
  model.run_layers(resid, 0, 1, &reducer);
  EXPECT_FALSE(reducer.stats(0).entropy.requires_grad());
  reducer.set_keep_grad(true);
  model.run_layers(resid, 0, 1, &reducer);
  EXPECT_TRUE(reducer.stats(0).entropy.requires_grad());
}

TEST(MapReducerTest, LayersOfTwoMixersHaveTwoMaps) {
  const LanguageModel model = load_model("zamba2");  // 4 Mamba-2 heads, 4 of attention in layer 1
  const ModelConfig& config = model.config();
  EXPECT_EQ(map_points(config, 0), (std::vector<TapPoint>{{Site::Map, 0}}));
  EXPECT_EQ(map_points(config, 1), (std::vector<TapPoint>{{Site::Map, 1}, {Site::Pattern, 1}}));
  EXPECT_EQ(map_point(config, 1, 3), (TapPoint{Site::Map, 1}));
  EXPECT_EQ(map_point(config, 1, 4), (TapPoint{Site::Pattern, 1}));
  MapReducer reducer(config, MapReduceOptions{}, {1, 3});
  model.forward(some_ids(1, 6), {.tap = &reducer});
  reducer.check_complete();
  EXPECT_EQ(reducer.layers(), (std::vector<int64_t>{1, 3}));
  const auto error = [](const auto& act) { return message_of<HookError>([&] { act(); }); };
  EXPECT_EQ(error([&] { reducer.stats(1); }),
            "[reduce] layer 1, expected one map, got blocks.1.attn.hook_pattern and "
            "blocks.1.mixer.hook_map: ask for one of them");
  EXPECT_EQ(error([&] {
              reducer.stats({Site::Pattern, 3});
            }),
            "[reduce] map, expected one that was reduced, got blocks.3.attn.hook_pattern");
  EXPECT_EQ(error([&] { map_point(config, 1); }),
            "[map] layer 1, expected one map, got 2 (mamba2+attention)");
  EXPECT_EQ(error([&] { map_point(config, 1, 8); }),
            "[map] head, expected 0 to 7 in layer 1, got 8");
}

TEST(MapReducerTest, Errors) {
  const ModelConfig config = config_of("nemotron_h");  // layer 1 is an MLP
  EXPECT_EQ(message_of<HookError>([&] { MapReducer(config, MapReduceOptions{}, {1}); }),
            "[map] layer, expected one with a mixer, got 1 (MLP only)");
  EXPECT_EQ(message_of<HookError>([&] { MapReducer(config, MapReduceOptions{}, {4}); }),
            "[map] layer, expected 0 to 3, got 4");
  const MapReducer reducer(config, MapReduceOptions{}, {2});
  EXPECT_EQ(message_of<HookError>([&] { reducer.stats(2); }),
            "[reduce] layer, expected one whose map was reduced (none yet), got 2");
  EXPECT_EQ(message_of<HookError>([&] { reducer.check_complete(); }),
            "[reduce] maps, expected each to fire, got no call of blocks.2.attn.hook_pattern");
}

}  // namespace
}  // namespace headlens
