// headlens/tests: means of head outputs, and ablation that puts them in.
#include "headlens/hooks/mean_activations.h"

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

class MeanActivationsFamilyTest : public ::testing::TestWithParam<std::string> {};

TEST_P(MeanActivationsFamilyTest, MeansOverTwoBatchesOfValidPositions) {
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
  const HeadOutputs all_means = means.point_means();
  const auto mixers = testing::mixers_of(model.config());
  EXPECT_EQ(all_means.size(), mixers.size());
  for (const auto& mixer : mixers) {
    const Tensor mean = all_means.at(mixer.z);
    const std::string name = site_name(mixer.z);
    const Tensor a = in_first[name], b = in_second[name];
    const Tensor all = at::cat({a[0].slice(0, 0, 3), a[1], b[0]});  // 3 + 5 + 7 positions
    EXPECT_LT(difference(mean.view(all.sizes().slice(1)), all.mean(0)), 1e-12) << name;
    EXPECT_EQ(mean.size(0), mixer.bank.count);
  }
}

TEST_P(MeanActivationsFamilyTest, MeanAblationPutsThemIn) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 5);
  MeanActivations means(model.config());
  model.forward(ids, {.tap = &means});
  const auto before = watch(model, ids);
  for (const auto& mixer : testing::mixers_of(model.config())) {
    const HeadRef head{mixer.layer, mixer.bank.first + 1};
    const auto cut = replace_heads(model.config(), {head}, means.point_means());
    EXPECT_EQ(head_output_point(model.config(), head.layer, head.head), mixer.z);
    const Tensor outputs = before[site_name(mixer.z)];
    const Tensor seen = cut->visit(mixer.z, outputs);
    const Tensor mean = outputs.select(2, 1).flatten(0, 1).mean(0);
    EXPECT_LT(difference(seen.select(2, 1), mean.expand_as(seen.select(2, 1))), 1e-12);
    EXPECT_TRUE(at::equal(seen.select(2, 0), outputs.select(2, 0)));
  }
}

TEST(MeanActivationsTest, ByLayerWhereALayerHasOneMixer) {
  const LanguageModel model = load_model("zamba2");
  MeanActivations means(model.config(), {0, 3});
  model.forward(some_ids(2, 5), {.tap = &means});
  for (const auto& [layer, mean] : means.means()) {
    EXPECT_TRUE(at::equal(mean, means.point_means().at({Site::MixerZ, layer})));
  }
  const auto cut = replace_heads(model.config(), {{3, 1, 1}}, means.means());
  const Tensor put = cut->visit({Site::MixerZ, 3}, at::zeros({1, 1, 4, 10}, at::kDouble));
  EXPECT_TRUE(at::equal(put[0][0][1], means.means().at(3)[1]));
  MeanActivations both(model.config(), {1});
  model.forward(some_ids(2, 5), {.tap = &both});
  EXPECT_EQ(message_of<HookError>([&] { both.means(); }),
            "[means] layer 1, expected one mixer, got two: ask for point_means");
}

INSTANTIATE_TEST_SUITE_P(Families, MeanActivationsFamilyTest, ::testing::ValuesIn(kFamilies),
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
