// headlens/tests: means of head outputs, and ablation that puts them in.
#include <gtest/gtest.h>

#include "headlens/hooks/hook_set.h"
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

class MeanActivationsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(MeanActivationsTest, MeansOverTwoBatchesOfValidPositions) {
  const LanguageModel model = load_model(GetParam());
  const Tensor first = some_ids(2, 5), second = some_ids(1, 7);
  const Tensor valid =
      at::tensor({1, 1, 1, 0, 0, 1, 1, 1, 1, 1}, at::kLong).view({2, 5}).to(at::kBool);
  MeanActivations means(model.config());
  means.set_valid(valid);
  model.forward(first, {.tap = &means});
  means.set_valid({});
  model.forward(second, {.tap = &means});
  const auto in_first = watch(model, first), in_second = watch(model, second);
  for (const auto& [layer, mean] : means.means()) {
    const std::string name = site_name(head_output_point(model.config(), layer));
    const Tensor a = in_first[name], b = in_second[name];
    const Tensor all = at::cat({a[0].slice(0, 0, 3), a[1], b[0]});  // 3 + 5 + 7 positions
    EXPECT_LT(difference(mean.view(all.sizes().slice(1)), all.mean(0)), 1e-12) << layer;
    EXPECT_EQ(mean.size(0), head_count(model.config().layers[static_cast<size_t>(layer)]));
  }
}

TEST_P(MeanActivationsTest, MeanAblationPutsThemIn) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 5);
  MeanActivations means(model.config(), {0});
  model.forward(ids, {.tap = &means});
  const auto cut = replace_heads(model.config(), {{0, 1, 1}}, means.means());
  const TapPoint point = head_output_point(model.config(), 0);
  const Tensor outputs = watch(model, ids)[site_name(point)];
  const Tensor seen = cut->visit(point, outputs);
  const Tensor mean = outputs.select(2, 1).flatten(0, 1).mean(0);
  EXPECT_LT(difference(seen.select(2, 1), mean.expand_as(seen.select(2, 1))), 1e-12);
  EXPECT_TRUE(at::equal(seen.select(2, 0), outputs.select(2, 0)));
}

INSTANTIATE_TEST_SUITE_P(Families, MeanActivationsTest, ::testing::ValuesIn(kFamilies),
                         [](const auto& info) { return info.param; });

TEST(MeanActivationsErrorsTest, NothingSeen) {
  const MeanActivations means(config_of("llama"), {2});
  EXPECT_EQ(message_of<HookError>([&] { means.means(); }),
            "[means] blocks.2.attn.hook_z, expected at least one position to average, got none");
}

TEST(MeanActivationsErrorsTest, ValidPositionsOfAnotherShape) {
  const LanguageModel model = load_model("llama");
  MeanActivations means(model.config());
  means.set_valid(at::ones({2, 4}, at::kBool));
  EXPECT_EQ(message_of<ShapeError>([&] { model.forward(some_ids(2, 5), {.tap = &means}); }),
            "[means] valid positions, expected [2, 5], got [2, 4]");
}

}  // namespace
}  // namespace headlens
