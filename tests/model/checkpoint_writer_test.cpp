// headlens/tests: a written checkpoint is the model that was written.
#include "headlens/model/checkpoint_writer.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/safetensors.h"
#include "headlens/model/fresh_weights.h"
#include "model/model_tools.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::kGoldenModels;
using testing::load_golden;
using testing::make_ids;
using testing::TempDir;

TEST(CheckpointWriterTest, LoadsBackAsTheSameModel) {
  for (const std::string& name : kGoldenModels) {
    const ModelConfig config = load_golden(name).config();
    auto weights = fresh_weights(config, 5, {.std = 0.2, .embed_std = 1});
    const TempDir dir;
    save_checkpoint(dir.path() / "below" / name, config, weights);
    const LanguageModel loaded = LanguageModel::load(dir.path() / "below" / name);
    EXPECT_TRUE(loaded.config() == config) << name;
    const LanguageModel built =
        LanguageModel::build(config, WeightScope::from_map(weights, at::kFloat, at::kCPU));
    const Tensor ids = make_ids(2, 6);
    EXPECT_TRUE(at::equal(loaded.forward(ids), built.forward(ids))) << name;
  }
}

TEST(CheckpointWriterTest, WritesInTheDtypeOfTheConfig) {
  ModelConfig config = load_golden("llamba").config();
  config.dtype = "bfloat16";
  const TempDir dir;
  save_checkpoint(dir.path(), config, fresh_weights(config, 5));
  const auto file = SafetensorsFile::open(dir.path() / "model.safetensors");
  EXPECT_EQ(file.info("lm_head.weight").dtype, at::kBFloat16);
  EXPECT_EQ(LanguageModel::load(dir.path()).dtype(), at::kFloat);  // the default on the CPU
}

TEST(CheckpointWriterTest, TakesTrainedWeights) {
  const ModelConfig config = load_golden("mamba").config();
  auto weights = fresh_weights(config, 5);
  for (auto& [name, tensor] : weights) tensor.set_requires_grad(true);
  const TempDir dir;
  EXPECT_NO_THROW(save_checkpoint(dir.path(), config, weights));
}

TEST(CheckpointWriterTest, RefusesWeightsThatAreNotTheModels) {
  const ModelConfig config = load_golden("llama").config();
  const TempDir dir;
  auto weights = fresh_weights(config, 5);
  weights["stray"] = at::zeros({1});
  EXPECT_EQ(error_message<CheckpointError>([&] { save_checkpoint(dir.path(), config, weights); }),
            "[weights] tensors, expected all to be read, got 1 unread: stray");
  weights.erase("stray");
  weights.erase("model.norm.weight");
  EXPECT_EQ(error_message<CheckpointError>([&] { save_checkpoint(dir.path(), config, weights); }),
            "[weights] tensor 'model.norm.weight', expected shape [36], got no such tensor");
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "config.json"));
}

}  // namespace
}  // namespace headlens
