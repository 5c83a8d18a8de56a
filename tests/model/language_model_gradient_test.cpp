// headlens/tests: gradients of every weight against finite differences.
#include <gtest/gtest.h>

#include "headlens/core/safetensors.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::golden_dir;
using testing::kGoldenModels;
using testing::load_golden;
using testing::make_ids;

class GradientTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto file = SafetensorsFile::open(golden_dir(GetParam()) / "model.safetensors");
    for (const std::string& key : file.names()) {
      weights_[key] = file.tensor(key).to(at::kDouble).set_requires_grad(true);
    }
  }

  /// Mean log-probability of the next tokens: a loss that every weight reaches.
  Tensor loss() const {
    const LanguageModel model =
        LanguageModel::build(config_, WeightScope::from_map(weights_, at::kDouble, at::kCPU));
    const Tensor ids = make_ids(2, 8);
    const Tensor logits = model.forward(ids.narrow(1, 0, 7));
    const Tensor next = ids.narrow(1, 1, 7).unsqueeze(-1);
    return at::log_softmax(logits, -1).gather(2, next).mean();
  }

  ModelConfig config_ = load_golden(GetParam()).config();
  std::map<std::string, Tensor> weights_;
};

TEST_P(GradientTest, EveryWeightAgreesWithFiniteDifferences) {
  loss().backward();
  for (auto& [name, weight] : weights_) {
    ASSERT_TRUE(weight.grad().defined()) << name;
    // The entry that matters most: its difference is well above rounding.
    const int64_t at_entry = weight.grad().abs().argmax().item<int64_t>();
    const double gradient = weight.grad().flatten()[at_entry].item<double>();
    const double step = 1e-5;
    const Tensor kept = weight.detach().clone();
    const auto shifted = [&](double by) {
      weight.detach().flatten()[at_entry].add_(by);
      const double value = loss().item<double>();
      weight.detach().copy_(kept);
      return value;
    };
    const double difference = (shifted(step) - shifted(-step)) / (2 * step);
    // Central differences err by step^2 times the third derivative, and by rounding / step.
    EXPECT_NEAR(difference, gradient, 1e-6 * std::max(1.0, std::abs(gradient))) << name;
    EXPECT_NE(gradient, 0) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GradientTest, ::testing::ValuesIn(kGoldenModels),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace headlens
