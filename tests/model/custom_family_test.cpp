// headlens/tests: a checkpoint family that only the caller knows.
#include "headlens/model/custom_family.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "core/json_fields.h"
#include "headlens/core/error.h"
#include "headlens/core/safetensors.h"
#include "model/model_tools.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using nlohmann::json;
using testing::error_message;
using testing::golden_dir;
using testing::make_ids;
using testing::TempDir;

/// "pico": the golden Llama under keys and tensor names that no built-in family has.
const TensorNames kPicoTensors = {
    .embed = "tok",
    .layer = "h.{}",
    .norm1 = "n1",
    .norm2 = "n2",
    .attention = {.scope = "a", .q = "wq", .k = "wk", .v = "wv", .out = "wo"},
    .mlp = {.scope = "m", .gate = "w1", .up = "w3", .down = "w2"},
    .final_norm = "end",
    .lm_head = "out"};

/// Writes the golden Llama as a pico checkpoint.
void write_pico(const TempDir& dir) {
  const std::vector<std::pair<std::string, std::string>> renames = {
      {"model.embed_tokens", "tok"},
      {"model.layers.", "h."},
      {"input_layernorm", "n1"},
      {"post_attention_layernorm", "n2"},
      {"self_attn", "a"},
      {"q_proj", "wq"},
      {"k_proj", "wk"},
      {"v_proj", "wv"},
      {"o_proj", "wo"},
      {"mlp", "m"},
      {"gate_proj", "w1"},
      {"up_proj", "w3"},
      {"down_proj", "w2"},
      {"model.norm", "end"},
      {"lm_head", "out"}};
  const auto file = SafetensorsFile::open(golden_dir("llama") / "model.safetensors");
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const std::string& name : file.names()) {
    std::string renamed = name;
    for (const auto& [from, to] : renames) {
      const size_t at = renamed.find(from);
      if (at != std::string::npos) renamed.replace(at, from.size(), to);
    }
    tensors.emplace_back(renamed, file.tensor(name));
  }
  save_safetensors(dir.path() / "model.safetensors", tensors);
  dir.write("config.json", R"({"pico": 1, "depth": 3, "width": 36, "heads": [4, 2, 12]})");
}

ModelConfig parse_pico(std::string_view text) {
  const json own = json::parse(text);
  ModelConfig config = testing::load_golden("llama").config();  // what pico's keys do not say
  config.d_model = own["width"];
  for (LayerSpec& layer : config.layers) {
    auto& attention = std::get<AttentionSpec>(*layer.mixer);
    attention.heads = own["heads"][0];
    attention.kv_heads = own["heads"][1];
    attention.d_head = own["heads"][2];
  }
  config.layers.resize(own["depth"]);
  return config;
}

CustomFamily pico() {
  return {.name = "pico", .parse = parse_pico, .tensors = kPicoTensors};
}

LanguageModel load_as(const TempDir& dir, const CustomFamily& family) {
  return LanguageModel::load(dir.path(), {.dtype = at::kDouble, .family = family});
}

TEST(CustomFamilyTest, LoadsItsOwnKeysAndNames) {
  const TempDir dir;
  write_pico(dir);
  const LanguageModel model = load_as(dir, pico());
  EXPECT_EQ(model.config().family, "pico");
  const Tensor ids = make_ids(2, 9);
  EXPECT_TRUE(at::equal(model.forward(ids), testing::load_golden("llama").forward(ids)));
}

TEST(CustomFamilyTest, WithoutTheFamilyTheCheckpointIsRefused) {
  const TempDir dir;
  write_pico(dir);
  EXPECT_THROW(LanguageModel::load(dir.path()), ConfigError);
}

TEST(CustomFamilyTest, AnUnreadTensorIsAnErrorUnlessTheFamilyKnowsIt) {
  const TempDir dir;
  write_pico(dir);
  CustomFamily family = pico();
  family.parse = [](std::string_view text) {
    ModelConfig config = parse_pico(text);
    config.layers.pop_back();
    return config;
  };
  const auto message = error_message<CheckpointError>([&] { load_as(dir, family); });
  EXPECT_NE(message.find("h.2.a.wk.weight"), std::string::npos) << message;
  family.tensors.unread = {"h.2.*"};
  EXPECT_EQ(load_as(dir, family).layer_count(), 2);
}

TEST(CustomFamilyTest, BuildsFromWeightsInMemory) {
  const ModelConfig config =
      parse_model_config(R"({"width": 36, "depth": 2, "heads": [4, 2, 12]})", pico());
  std::vector<std::string> asked;
  const auto generate = [&](const std::string& name, at::IntArrayRef shape) {
    asked.push_back(name);
    return at::zeros(shape);
  };
  const auto weights = WeightScope::from_generator(generate, at::kFloat, at::kCPU);
  EXPECT_EQ(LanguageModel::build(config, weights, kPicoTensors).layer_count(), 2);
  EXPECT_NE(std::find(asked.begin(), asked.end(), "h.1.m.w2.weight"), asked.end());
}

/// The message for pico with its specs changed.
std::string refusal(const std::function<void(ModelConfig&)>& change) {
  CustomFamily family = pico();
  family.parse = [&](std::string_view) {
    ModelConfig config = testing::load_golden("bamba").config();
    change(config);
    return config;
  };
  return error_message<ConfigError>([&] { parse_model_config("{}", family, "my.json"); });
}

TEST(CustomFamilyTest, SpecsThatNoModelCanHaveAreRefused) {
  EXPECT_EQ(refusal([](ModelConfig& c) { c.layers.clear(); }).find("[my.json] specs"), 0U);
  EXPECT_EQ(refusal([](ModelConfig& c) { c.layers[1] = {}; }),
            "[my.json] layer 1, expected a mixer or an MLP, got neither");
  EXPECT_EQ(refusal([](ModelConfig& c) { c.layers[0].mlp->d_mlp = 0; }),
            "[my.json] layer 0: d_mlp, expected 1 or more, got 0");
  EXPECT_EQ(refusal([](ModelConfig& c) {
              c.layers[0].mixer = AttentionSpec{.heads = 6, .kv_heads = 4, .d_head = 8};
            }),
            "[my.json] layer 0: heads, expected a multiple of kv_heads = 4, got 6");
  EXPECT_EQ(refusal([](ModelConfig& c) {
              c.layers[0].mixer =
                  Mamba2Spec{.heads = 4, .d_head = 8, .d_state = 8, .groups = 3, .d_conv = 4};
            }),
            "[my.json] layer 0: heads, expected a multiple of groups = 3, got 4");
}

TEST(CustomFamilyTest, NeedsANameOfItsOwnAndAParser) {
  const auto message = [](const CustomFamily& family) {
    return error_message<ConfigError>([&] { parse_model_config("{}", family, "my.json"); });
  };
  EXPECT_EQ(message({.name = "pico"}),
            "[my.json] custom family, expected a name and a parser, got no parser");
  EXPECT_EQ(message({.parse = parse_pico}),
            "[my.json] custom family, expected a name and a parser, got no name");
  EXPECT_EQ(message({.name = "llama", .parse = parse_pico}),
            "[my.json] custom family, expected a name that no built-in family has, got 'llama'");
}

}  // namespace
}  // namespace headlens
