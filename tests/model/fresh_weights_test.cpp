// headlens/tests: first weights: their names, their spread, and that they repeat.
#include "headlens/model/fresh_weights.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/safetensors.h"
#include "model/model_tools.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::golden_dir;
using testing::kGoldenModels;
using testing::load_golden;

TEST(FreshWeightsTest, NamesAndShapesOfTheCheckpoint) {
  for (const std::string& name : kGoldenModels) {
    const auto file = SafetensorsFile::open(golden_dir(name) / "model.safetensors");
    const auto weights = fresh_weights(load_golden(name).config(), 1);
    ASSERT_EQ(weights.size(), file.names().size()) << name;
    for (const auto& [key, tensor] : weights) {
      ASSERT_TRUE(file.has(key)) << name << " " << key;
      EXPECT_EQ(tensor.sizes(), file.info(key).shape) << name << " " << key;
      EXPECT_EQ(tensor.scalar_type(), at::kFloat);
    }
  }
}

TEST(FreshWeightsTest, SeedAndNameDecide) {
  const ModelConfig config = load_golden("bamba").config();
  const auto first = fresh_weights(config, 7);
  const auto again = fresh_weights(config, 7);
  const auto other = fresh_weights(config, 8);
  for (const auto& [key, tensor] : first) {
    EXPECT_TRUE(at::equal(tensor, again.at(key))) << key;
  }
  const std::string q_proj = "model.layers.1.self_attn.q_proj.weight";
  EXPECT_FALSE(at::equal(first.at(q_proj), other.at(q_proj)));
  const std::string in_proj = "model.layers.0.mamba.in_proj.weight";
  EXPECT_FALSE(at::equal(first.at(in_proj), first.at("model.layers.2.mamba.in_proj.weight")));
}

TEST(FreshWeightsTest, Spread) {
  const InitOptions options = {.std = 0.1, .embed_std = 0.5, .head_std = 0.01};
  const auto weights = fresh_weights(load_golden("llama").config(), 3, options);
  const auto std_of = [&](const std::string& key) { return weights.at(key).std().item<double>(); };
  // At least 1700 draws each: the standard deviation of 1700 draws errs by 1.7 %.
  EXPECT_NEAR(std_of("model.embed_tokens.weight"), 0.5, 0.04);
  EXPECT_NEAR(std_of("lm_head.weight"), 0.01, 0.001);
  EXPECT_NEAR(std_of("model.layers.1.self_attn.q_proj.weight"), 0.1, 0.01);
  EXPECT_NEAR(std_of("model.layers.1.self_attn.o_proj.weight"), 0.1 / std::sqrt(6.0), 0.004);
  EXPECT_NEAR(std_of("model.layers.1.mlp.down_proj.weight"), 0.1 / std::sqrt(6.0), 0.004);
  EXPECT_TRUE(weights.at("model.norm.weight").eq(1).all().item<bool>());
  EXPECT_TRUE(weights.at("model.layers.0.self_attn.q_proj.bias").eq(0).all().item<bool>());
}

TEST(FreshWeightsTest, StateSpaceParameters) {
  const auto mamba = fresh_weights(load_golden("mamba").config(), 3);
  const Tensor A_log = mamba.at("backbone.layers.0.mixer.A_log");  // [channel, d_state=5]
  EXPECT_TRUE(at::allclose(A_log.exp()[2], at::arange(1, 6, at::kFloat)));
  const Tensor dt = at::softplus(mamba.at("backbone.layers.0.mixer.dt_proj.bias"));
  EXPECT_GE(dt.min().item<double>(), 0.999e-3);
  EXPECT_LE(dt.max().item<double>(), 0.1001);
  const auto mamba2 = fresh_weights(load_golden("mamba2").config(), 3);
  const Tensor decay = mamba2.at("backbone.layers.0.mixer.A_log").exp();
  EXPECT_TRUE(decay.ge(1).logical_and(decay.le(16)).all().item<bool>());
  EXPECT_TRUE(mamba2.at("backbone.layers.0.mixer.D").eq(1).all().item<bool>());
}

// Only config.json is read: the folder holds nothing else.
TEST(FreshWeightsTest, ModelOfAConfigAlone) {
  const Tensor ids = at::arange(12, at::kLong).view({2, 6});
  for (const std::string& name : kGoldenModels) {
    const testing::TempDir dir;
    std::filesystem::copy_file(golden_dir(name) / "config.json", dir.path() / "config.json");
    const LanguageModel model = random_model(dir.path(), 3);
    const WeightScope weights =
        WeightScope::from_map(fresh_weights(model.config(), 3), at::kFloat, at::kCPU);
    const LanguageModel same = LanguageModel::build(model.config(), weights);
    EXPECT_TRUE(at::equal(model.forward(ids), same.forward(ids))) << name;
    EXPECT_EQ(model.parameter_count(), same.parameter_count()) << name;
  }
  const LanguageModel one = random_model(golden_dir("bamba"), 1, {.dtype = at::kBFloat16});
  EXPECT_EQ(one.dtype(), at::kBFloat16);
  EXPECT_TRUE(one.fingerprint().starts_with("random-")) << one.fingerprint();
  EXPECT_EQ(one.fingerprint(), random_model(golden_dir("bamba"), 1).fingerprint());
  EXPECT_NE(one.fingerprint(), random_model(golden_dir("bamba"), 2).fingerprint());
  EXPECT_NE(one.fingerprint(), random_model(golden_dir("llama"), 1).fingerprint());
}

TEST(FreshWeightsTest, RefusesAnEmptyRange) {
  EXPECT_EQ(error_message<ConfigError>([] {
              fresh_weights(load_golden("mamba").config(), 3, {.dt_min = 0.1, .dt_max = 0.1});
            }),
            "[fresh_weights] dt_min and dt_max, expected 0 < dt_min < dt_max, got 0.1 and 0.1");
}

}  // namespace
}  // namespace headlens
