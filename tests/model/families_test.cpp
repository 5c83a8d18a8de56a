// headlens/tests: config.json of every family: what is read, what is refused, what is written.
#include "headlens/model/families.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/error_message.h"
#include "core/json_fields.h"
#include "headlens/core/error.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using nlohmann::json;
using testing::error_message;
using testing::golden_dir;
using testing::kGoldenModels;

json golden_json(const std::string& name) {
  return read_json_file(golden_dir(name) / "config.json");
}

ModelConfig parse(const json& config) {
  return parse_model_config(config.dump());
}

std::string refusal(const json& config) {
  return error_message<ConfigError>([&] { parse(config); });
}

/// A golden's config with one key changed.
json with(const std::string& name, const std::string& key, const json& value) {
  json config = golden_json(name);
  // A JSON number cannot be infinite; dump() would write null.
  config.erase("time_step_limit");
  config[key] = value;
  return config;
}

/// A golden's config without one key.
json without(const std::string& name, const std::string& key) {
  json config = with(name, key, nullptr);
  config.erase(key);
  return config;
}

template <typename Spec>
Spec mixer_of(const ModelConfig& config, size_t layer = 0) {
  return std::get<Spec>(*config.layers.at(layer).mixer);
}

TEST(FamiliesTest, WritingAndReadingBack) {
  for (const std::string& name : kGoldenModels) {
    ModelConfig config = testing::load_golden(name).config();
    config.eos_token_ids = {3, 5};
    EXPECT_TRUE(parse_model_config(write_model_config(config)) == config) << name;
  }
}

TEST(FamiliesTest, BothDialectsSayTheSame) {
  for (const std::string name :
       {"llama", "mamba2", "bamba", "llama_yarn", "llama_dynamic", "gpt_neox", "phi3_partial",
        "phi3_longrope_long", "qwen2_windows", "gemma2", "falcon_h1", "zamba2", "jamba"}) {
    const ModelConfig newer = testing::load_golden(name).config();
    EXPECT_TRUE(newer == testing::load_golden(name + "_v4").config()) << name;
  }
}

// Keys that transformers stores and never reads in a family.
TEST(FamiliesTest, KeysThatChangeNothing) {
  const auto same = [](const std::string& name, const char* key, const json& value) {
    return parse(with(name, key, value)) == parse(with(name, key, nullptr));
  };
  EXPECT_TRUE(same("zamba2", "use_long_context", true));
  EXPECT_TRUE(same("llama_tied", "partial_rotary_factor", 0.5));  // its rope is the default one
  EXPECT_TRUE(same("mamba2", "norm_before_gate", true));
  EXPECT_TRUE(same("gpt2", "reorder_and_upcast_attn", true));
  EXPECT_TRUE(same("phi3", "interpolate_factor", 1));
  EXPECT_EQ(refusal(with("phi3", "lm_head_bias", true)),
            "[config.json] key 'lm_head_bias', expected false (nothing else is handled), got "
            "boolean true");
}

TEST(FamiliesTest, Llama) {
  const ModelConfig config = parse(golden_json("llama"));
  EXPECT_EQ(config.family, "llama");
  EXPECT_EQ(config.eos_token_ids, std::vector<int64_t>{2});
  const auto spec = mixer_of<AttentionSpec>(config);
  EXPECT_EQ(spec.heads, 4);
  EXPECT_EQ(spec.kv_heads, 2);
  EXPECT_EQ(spec.d_head, 12);  // head_dim, not hidden_size / heads
  EXPECT_TRUE(spec.qkv_bias && spec.out_bias);
  EXPECT_EQ(std::get<Llama3RopeScaling>(spec.rope->scaling).original_max_position, 32);
  EXPECT_EQ(layer_kind_name(layer_kind(config.layers[0])), "attention");
}

TEST(FamiliesTest, NemotronsMlpIsReluSquaredUnlessSaid) {
  const ModelConfig config = parse(without("nemotron_h", "mlp_hidden_act"));
  bool found = false;
  for (const LayerSpec& layer : config.layers) {
    if (!layer.mlp) continue;
    found = true;
    EXPECT_EQ(layer.mlp->activation, Activation::Relu2);
  }
  EXPECT_TRUE(found);
}

// The sizes of Llama-3.1-8B as published, in the dialect of transformers 4.
TEST(FamiliesTest, PublishedLlama) {
  const json published = {{"architectures", {"LlamaForCausalLM"}},
                          {"attention_bias", false},
                          {"attention_dropout", 0.0},
                          {"bos_token_id", 128000},
                          {"eos_token_id", {128001, 128008, 128009}},
                          {"hidden_act", "silu"},
                          {"hidden_size", 4096},
                          {"initializer_range", 0.02},
                          {"intermediate_size", 14336},
                          {"max_position_embeddings", 131072},
                          {"mlp_bias", false},
                          {"model_type", "llama"},
                          {"num_attention_heads", 32},
                          {"num_hidden_layers", 32},
                          {"num_key_value_heads", 8},
                          {"pretraining_tp", 1},
                          {"rms_norm_eps", 1e-5},
                          {"rope_scaling",
                           {{"factor", 8.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 8192},
                            {"rope_type", "llama3"}}},
                          {"rope_theta", 500000.0},
                          {"tie_word_embeddings", false},
                          {"torch_dtype", "bfloat16"},
                          {"transformers_version", "4.42.3"},
                          {"use_cache", true},
                          {"vocab_size", 128256}};
  const ModelConfig config = parse(published);
  EXPECT_EQ(config.dtype, "bfloat16");
  EXPECT_EQ(config.layers.size(), 32u);
  EXPECT_EQ(config.eos_token_ids.size(), 3u);
  EXPECT_EQ(mixer_of<AttentionSpec>(config).d_head, 128);
  EXPECT_EQ(mixer_of<AttentionSpec>(config).rope->theta, 500000);
}

TEST(FamiliesTest, FalconMambaTakesTheSizeNotTheExpansion) {
  const auto spec = mixer_of<Mamba1Spec>(parse(golden_json("falcon_mamba")));
  EXPECT_EQ(spec.d_inner, 56);  // expand * hidden_size would be 512
  EXPECT_EQ(spec.bcdt_rms_eps, 1e-3);
  EXPECT_EQ(mixer_of<Mamba1Spec>(parse(without("falcon_mamba", "mixer_rms_eps"))).bcdt_rms_eps,
            1e-6);
  EXPECT_FALSE(mixer_of<Mamba1Spec>(parse(golden_json("mamba"))).bcdt_rms_eps);
}

TEST(FamiliesTest, MambaAutoRank) {
  EXPECT_EQ(mixer_of<Mamba1Spec>(parse(with("mamba", "time_step_rank", "auto"))).dt_rank, 2);
}

TEST(FamiliesTest, TimeStepLimit) {
  EXPECT_EQ(mixer_of<Mamba2Spec>(parse(golden_json("mamba2"))).dt_max, 1.1);
  const auto text = [](const std::string& limit) {
    json config = with("mamba2", "time_step_limit", "LIMIT");
    std::string out = config.dump();
    return out.replace(out.find("\"LIMIT\""), 7, limit);
  };
  for (const char* open : {"[0.5, Infinity]", R"([0.5, {"__float__": "Infinity"}])"}) {
    const auto spec = mixer_of<Mamba2Spec>(parse_model_config(text(open)));
    EXPECT_EQ(spec.dt_min, 0.5);
    EXPECT_EQ(spec.dt_max, 0);  // no upper limit
  }
  EXPECT_EQ(error_message<ConfigError>([&] { parse_model_config(text("[2.0, 1.0]")); }),
            "[config.json] key 'time_step_limit', expected [min, max] with 0 <= min <= max and "
            "max > 0, got [2, 1]");
}

TEST(FamiliesTest, HybridsAreLists) {
  const ModelConfig bamba = parse(without("bamba", "time_step_limit"));
  EXPECT_EQ(layer_kind(bamba.layers[0]), LayerKind::Mamba2);
  EXPECT_EQ(layer_kind(bamba.layers[1]), LayerKind::Attention);
  EXPECT_EQ(mixer_of<AttentionSpec>(bamba, 1).rope->rotary_dim, 6);  // half of d_head
  const ModelConfig nemotron = parse(without("nemotron_h", "time_step_limit"));
  EXPECT_EQ(layer_kind(nemotron.layers[1]), LayerKind::None);
  EXPECT_EQ(nemotron.layers[1].mlp->activation, Activation::Relu2);
  EXPECT_FALSE(mixer_of<AttentionSpec>(nemotron, 2).rope);
  EXPECT_EQ(mixer_of<Mamba2Spec>(nemotron).norm_groups, 3);
  json older = without("nemotron_h", "layers_block_type");
  older["hybrid_override_pattern"] = "M-*M";
  EXPECT_TRUE(parse(older) == nemotron);
}

TEST(FamiliesTest, LlambaByModelTypeWithAPaddedVocabulary) {
  const ModelConfig config = parse(without("llamba", "architectures"));
  EXPECT_EQ(config.family, "llamba");
  EXPECT_EQ(config.vocab_size, 104);
  EXPECT_EQ(mixer_of<DiscreteMamba2Spec>(config).qk_heads, 2);
  EXPECT_FALSE(mixer_of<DiscreteMamba2Spec>(config).conv_silu);
}

TEST(FamiliesErrors, Architectures) {
  EXPECT_EQ(refusal(with("llama", "architectures", {"OPTForCausalLM"})),
            "[config.json] architecture, expected one of LlamaForCausalLM, MistralForCausalLM, "
            "Qwen2ForCausalLM, Qwen3ForCausalLM, Gemma2ForCausalLM, Phi3ForCausalLM, "
            "Olmo2ForCausalLM, GPTNeoXForCausalLM, GPT2LMHeadModel, MambaForCausalLM, "
            "FalconMambaForCausalLM, Mamba2ForCausalLM, MambaLMHeadModel, LlambaLMHeadModel, "
            "BambaForCausalLM, NemotronHForCausalLM, FalconH1ForCausalLM, Zamba2ForCausalLM, "
            "JambaForCausalLM, got 'OPTForCausalLM'");
  EXPECT_EQ(refusal(with("llama", "architectures", {"GPT2LMHeadModel"})),
            "[config.json] key 'model_type', expected 'gpt2' beside architectures "
            "GPT2LMHeadModel, got 'llama'");
  // A model of a known type but another head is another model.
  EXPECT_NE(refusal(with("llama", "architectures", {"LlamaForSequenceClassification"})), "");
  EXPECT_EQ(known_architectures().size(), 19u);
}

TEST(FamiliesErrors, UnknownKeysAreNamed) {
  EXPECT_EQ(refusal(with("llama", "model_type", "mistral")),
            "[config.json] key 'model_type', expected 'llama' beside architectures "
            "LlamaForCausalLM, got 'mistral'");
  EXPECT_EQ(refusal(with("llama", "rms_norm_eps", -1)),
            "[config.json] key 'rms_norm_eps', expected a finite number from 0, got -1");
  EXPECT_EQ(
      refusal(with("llama", "dtype", "int8")),
      "[config.json] key 'dtype', expected float32, bfloat16, float16 or float64, got 'int8'");
  EXPECT_NE(refusal(with("bamba", "layers_block_type",
                         {"full_attention", "linear_attention", "linear_attention"}))
                .find("key 'layers_block_type', expected attention where attn_layer_indices says"),
            std::string::npos);
  EXPECT_EQ(refusal(with("llama", "sliding_window", 128)),
            "[config.json] keys, expected only known ones, got also sliding_window");
  EXPECT_EQ(refusal(with("llama", "quantization_config", {{"bits", 4}})),
            "[config.json] keys, expected only known ones, got also quantization_config");
  json rope = golden_json("llama");
  rope["rope_parameters"]["beta_fast"] = 32;
  EXPECT_EQ(refusal(rope),
            "[config.json] keys, expected only known ones, got also rope_parameters.beta_fast");
  EXPECT_NO_THROW(parse(with("llama", "sliding_window", nullptr)));
}

TEST(FamiliesErrors, MissingAndMistypedKeys) {
  EXPECT_EQ(refusal(without("llama", "hidden_size")),
            "[config.json] key 'hidden_size', expected integer, got nothing");
  EXPECT_EQ(refusal(with("llama", "hidden_size", "36")),
            "[config.json] key 'hidden_size', expected integer, got string \"36\"");
  EXPECT_EQ(refusal(with("llama", "num_hidden_layers", 0)),
            "[config.json] key 'num_hidden_layers', expected 1 to 4096, got 0");
  EXPECT_EQ(refusal(without("llamba", "ssm_cfg")),
            "[config.json] key 'ssm_cfg', expected object, got nothing");
}

TEST(FamiliesErrors, ValuesThatAreNotHandled) {
  json yarn = golden_json("llama");
  yarn["rope_parameters"]["rope_type"] = "ntk";
  EXPECT_EQ(refusal(yarn),
            "[config.json] rope type, expected default, linear, dynamic, llama3, yarn or longrope, "
            "got 'ntk'");
  EXPECT_EQ(refusal(with("llama_v4", "rope_scaling", {{"type", "linear"}, {"factor", 0.0}})),
            "[config.json] rope key 'factor', expected a finite number > 0, got 0");
  EXPECT_EQ(refusal(with("llama_v4", "rope_scaling", {{"type", "dynamic"}})),
            "[config.json] key 'rope_scaling.factor', expected number, got nothing");
  EXPECT_EQ(refusal(with("llama", "hidden_act", "mish")),
            "[config.json] key 'hidden_act', expected silu, gelu, gelu_new, gelu_pytorch_tanh, "
            "relu or relu2, got 'mish'");
  EXPECT_EQ(refusal(with("mamba", "hidden_act", "relu")),
            "[config.json] key 'hidden_act', expected \"silu\" or \"swish\" (nothing else is "
            "handled), got "
            "string \"relu\"");
  EXPECT_EQ(refusal(with("llamba", "lm_head_bias", true)),
            "[config.json] key 'lm_head_bias', expected false (nothing else is handled), got "
            "boolean true");
  EXPECT_EQ(refusal(with("nemotron_h", "layers_block_type", {"moe"})),
            "[config.json] kind of a layer, expected linear_attention, full_attention or mlp, got "
            "'moe'");
  EXPECT_EQ(refusal(with("bamba", "partial_rotary_factor", 1.0)),
            "[config.json] key 'partial_rotary_factor', expected 0.5 (nothing else is handled), "
            "got number 1.0");
}

TEST(FamiliesErrors, SizesThatDoNotFit) {
  EXPECT_EQ(refusal(with("gpt_neox", "rope_parameters",
                         {{"partial_rotary_factor", 1e66}, {"rope_theta", 1e4}})),
            "[config.json] share of a head's dimensions that are rotated, expected above 0 and at "
            "most 1, got 1e+66");
  EXPECT_EQ(refusal(with("llama", "num_key_value_heads", 3)),
            "[config.json] num_attention_heads, expected a multiple of num_key_value_heads = 3, "
            "got 4");
  EXPECT_EQ(refusal(with("mamba2", "expand", 3)),
            "[config.json] expand * hidden_size, expected num_heads * head_dim = 72, got 108");
  EXPECT_EQ(refusal(with("bamba", "attn_layer_indices", {5})),
            "[config.json] key 'attn_layer_indices', expected 0 to 2, got 5");
}

// What a format cannot say is refused when writing, not lost.
TEST(FamiliesErrors, WritingMoreThanTheFormatSays) {
  ModelConfig mamba2 = parse(golden_json("mamba2"));
  mamba2.layers[1].mixer = Mamba1Spec();
  EXPECT_EQ(error_message<ConfigError>([&] { write_model_config(mamba2); }),
            "[write_model_config] layers of family 'mamba2', expected all alike, got others");
  ModelConfig llamba = parse(golden_json("llamba"));
  llamba.norm_eps = 1e-6;
  EXPECT_NE(error_message<ConfigError>([&] { write_model_config(llamba); }), "");
  ModelConfig mamba = parse(golden_json("mamba"));
  for (LayerSpec& layer : mamba.layers) layer.mlp = MlpSpec{8};
  EXPECT_EQ(error_message<ConfigError>([&] { write_model_config(mamba); }),
            "[write_model_config] config, expected one that a config.json of family 'mamba' can "
            "say, got more");
}

}  // namespace
}  // namespace headlens
