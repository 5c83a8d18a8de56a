// headlens/tests: a model whose layers are on several devices.
//
// Without a second GPU the second device is LibTorch's "meta", which has shapes and no numbers: a
// tensor that is not moved where its layer is cannot be mixed with the others.
#include <gtest/gtest.h>

#include "headlens/core/device.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::golden_dir;
using testing::kGoldenModels;
using testing::largest_difference;
using testing::load_golden;
using testing::make_ids;
using testing::Recorder;

LanguageModel spread_golden(const std::string& name, const std::vector<at::Device>& devices) {
  LoadOptions options;
  options.dtype = at::kDouble;
  options.devices = devices;
  return LanguageModel::load(golden_dir(name), options);
}

/// Index of the site's layer in the name "blocks.3.hook_z", or -1.
int64_t layer_of(const std::string& site) {
  return site.starts_with("blocks.") ? std::stoll(site.substr(7)) : -1;
}

class LanguageModelDevices : public ::testing::TestWithParam<std::string> {};

TEST_P(LanguageModelDevices, EachPartIsWhereThePlanSays) {
  const LanguageModel model = spread_golden(GetParam(), {at::kCPU, at::kMeta});
  EXPECT_EQ(model.device(), at::kCPU);
  EXPECT_EQ(model.devices(), (std::vector<at::Device>{at::kCPU, at::kMeta}));
  EXPECT_EQ(model.layer_device(0), at::kCPU);
  EXPECT_EQ(model.layer_device(model.layer_count() - 1), at::kMeta);
  EXPECT_EQ(model.with_layers({model.layer_count() - 1}).layer_device(0), at::kMeta);
  const LanguageModel one = load_golden(GetParam());
  // Zamba2's shared block is on both devices.
  EXPECT_GE(model.parameter_count(), one.parameter_count());
  if (GetParam() != "zamba2") {
    EXPECT_EQ(model.parameter_count(), one.parameter_count());
  }
  EXPECT_EQ(one.devices(), std::vector<at::Device>{at::kCPU});
}

/// Notes where the residual is as it enters the second device, and goes no further: few operations
/// exist on meta.
class Border final : public Recorder {
 public:
  struct Reached {};
  explicit Border(const LanguageModel& model) : model_(model) {}
  Tensor visit(TapPoint point, Tensor value) override {
    Recorder::visit(point, value);
    if (point.layer >= 0 && model_.layer_device(point.layer) == at::kMeta) throw Reached();
    return value;
  }

 private:
  const LanguageModel& model_;
};

TEST_P(LanguageModelDevices, TheResidualFollowsTheLayers) {
  const LanguageModel model = spread_golden(GetParam(), {at::kCPU, at::kMeta});
  const Tensor ids = make_ids(2, 11);
  Recorder here;
  Border there(model);
  load_golden(GetParam()).forward(ids, {.tap = &here});
  EXPECT_THROW(model.forward(ids, {.tap = &there}), Border::Reached);
  ASSERT_FALSE(there.order.empty());
  const std::string last = there.order.back();
  EXPECT_EQ(there.seen[last].device(), at::kMeta);
  EXPECT_EQ(there.seen[last].sizes(), here.seen[last].sizes());
  there.order.pop_back();
  EXPECT_GT(there.order.size(), 3u);
  for (const std::string& name : there.order) {
    EXPECT_TRUE(at::allclose(there.seen[name], here.seen[name], 0, 0, /*equal_nan=*/true)) << name;
  }
  // What comes after the last layer takes a residual from anywhere.
  const Tensor resid = at::zeros({1, model.config().d_model}, at::kDouble);
  EXPECT_EQ(model.unembed(resid).device(), at::kMeta);
}

INSTANTIATE_TEST_SUITE_P(Models, LanguageModelDevices, ::testing::ValuesIn(kGoldenModels),
                         [](const auto& info) { return info.param; });

class LanguageModelDevicesCuda : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (cuda_device_count() < 2) GTEST_SKIP() << "fewer than two CUDA devices";
  }
};

TEST_P(LanguageModelDevicesCuda, EverySiteStateAndLogitAsOnOne) {
  const at::Device a(at::kCUDA, 0), b(at::kCUDA, 1);
  const LanguageModel one = spread_golden(GetParam(), {a});
  for (const auto& order : {std::vector{a, b}, {b, a}}) {
    const LanguageModel two = spread_golden(GetParam(), order);
    ASSERT_EQ(two.devices(), order);
    Recorder here, there;
    ModelState here_state, there_state;
    for (const int64_t from : {0, 7}) {  // a prompt, and its continuation
      const Tensor ids = make_ids(2, 11).narrow(1, from, from == 0 ? 7 : 4);
      one.forward(ids, {.tap = &here, .state = &here_state});
      const Tensor logits = two.forward(ids, {.tap = &there, .state = &there_state});
      EXPECT_EQ(logits.device(), order.back());
    }
    ASSERT_EQ(here.order, there.order);
    for (const std::string& name : here.order) {
      // The same operations on the same kind of card: no other rounding than its own.
      EXPECT_TRUE(at::allclose(there.seen[name].cpu(), here.seen[name].cpu(), 1e-12, 1e-12,
                               /*equal_nan=*/true))
          << name;
      if (layer_of(name) < 0) continue;
      EXPECT_EQ(there.seen[name].device(), two.layer_device(layer_of(name))) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LanguageModelDevicesCuda, ::testing::ValuesIn(kGoldenModels),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace headlens
