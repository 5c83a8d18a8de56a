// headlens/model: the Llamba family, in Cartesia's names.
#include "model/families/family.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr double kBlockNormEps =
    1e-5;  // fixed in the model's code; norm_epsilon is the last norm's

DiscreteMamba2Spec read_mixer(const JsonFields& fields, int64_t d_model) {
  DiscreteMamba2Spec spec;
  spec.v_heads = read_size(fields, "n_v_heads");
  spec.qk_heads = read_size(fields, "n_qk_heads");
  spec.d_state = read_size(fields, "d_state");
  spec.d_conv = read_size(fields, "d_conv", 4);
  spec.chunk = read_size(fields, "chunk_size", 128);
  spec.conv_bias = fields.optional("conv_bias", true);
  spec.proj_bias = fields.optional("bias", false);
  const int64_t d_inner = read_size(fields, "expand", 1) * d_model;
  check_divides(fields, "expand * d_model", d_inner, "n_v_heads", spec.v_heads);
  check_divides(fields, "n_v_heads", spec.v_heads, "n_qk_heads", spec.qk_heads);
  spec.d_head = d_inner / spec.v_heads;
  allow_only(fields, "activation", {"identity", "silu", "swish"});
  spec.conv_silu = fields.optional<std::string>("activation", "identity") != "identity";
  return spec;
}

MlpSpec read_mlp(const JsonFields& fields) {
  MlpSpec spec;
  spec.d_mlp = read_size(fields, "intermediate_size");
  spec.activation = read_activation(fields, "act_fn");
  spec.bias = fields.optional("bias", false);
  return spec;
}

/// The vocabulary is padded to a multiple of pad_vocab_size_multiple.
int64_t read_vocab(const JsonFields& fields) {
  const int64_t vocab = read_size(fields, "vocab_size");
  const int64_t multiple = read_size(fields, "pad_vocab_size_multiple", 8);
  return (vocab + multiple - 1) / multiple * multiple;
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.vocab_size = read_vocab(fields);
  config.d_model = read_size(fields, "d_model");
  config.norm_eps = kBlockNormEps;
  config.tied_embeddings = fields.optional("tie_embeddings", false);
  const LayerSpec layer = {read_mixer(fields.object("ssm_cfg"), config.d_model),
                           read_mlp(fields.object("mlp_cfg"))};
  config.layers.assign(static_cast<size_t>(read_layer_count(fields, "n_layer")), layer);
  allow_only(fields, "norm_epsilon", {kBlockNormEps});
  allow_only(fields, "lm_head_bias", {false});
  allow_only(fields, "lm_head_prenorm", {"rms"});
  // tie_word_embeddings is the base class's key; Llamba's own is tie_embeddings.
  fields.ignore({"resid_dropout", "tie_word_embeddings"});
  return config;
}

json write(const ModelConfig& config) {
  const auto& mixer = uniform_mixer<DiscreteMamba2Spec>(config);
  const std::optional<MlpSpec>& mlp = config.layers[0].mlp;
  HEADLENS_CHECK(ConfigError, mlp, "[write_model_config] a llamba layer, expected an MLP");
  json out = write_bookkeeping(llamba_family(), config);
  out.update({{"d_model", config.d_model},
              {"n_layer", config.layers.size()},
              {"norm_epsilon", config.norm_eps},
              {"tie_embeddings", config.tied_embeddings},
              {"pad_vocab_size_multiple", 1},
              {"lm_head_bias", false},
              {"resid_dropout", 0.0}});
  out["mlp_cfg"] = {{"intermediate_size", mlp->d_mlp},
                    {"bias", mlp->bias},
                    {"act_fn", activation_name(mlp->activation)}};
  out["ssm_cfg"] = {{"d_state", mixer.d_state},
                    {"n_v_heads", mixer.v_heads},
                    {"n_qk_heads", mixer.qk_heads},
                    {"expand", mixer.d_inner() / config.d_model},
                    {"d_conv", mixer.d_conv},
                    {"chunk_size", mixer.chunk},
                    {"activation", mixer.conv_silu ? "silu" : "identity"},
                    {"conv_bias", mixer.conv_bias},
                    {"bias", mixer.proj_bias}};
  return out;
}

TensorNames names() {
  TensorNames names;
  names.embed = "backbone.embedding";
  names.layer = "backbone.layers.{}";
  names.norm1 = "input_layernorm";
  names.norm2 = "post_attention_layernorm";
  names.attention.scope = "self_attn";
  names.mixer = "mixer";
  names.mlp.scope = "mlp";
  names.final_norm = "backbone.final_layernorm";
  return names;
}

}  // namespace

Family llamba_family() {
  return {"llamba", "llamba", {"LlambaLMHeadModel", "LlambaForCausalLM"}, parse, write, {names()}};
}

}  // namespace headlens
