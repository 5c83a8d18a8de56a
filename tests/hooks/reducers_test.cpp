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
  for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
    if (head_count(model.config().layers[static_cast<size_t>(layer)]) == 0) continue;
    const Tensor map = seen[site_name(map_point(model.config(), layer))].abs();
    const Tensor p = map / map.sum(-1, true);
    const Tensor expected = -(p * p.clamp_min(1e-300).log()).sum(-1);  // 0 ln 0 = 0
    EXPECT_LT(difference(reducer.stats(layer).entropy, expected), 1e-9) << layer;
    EXPECT_LT(difference(reducer.stats(layer).row_mass, map.sum(-1)), 1e-9) << layer;
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
