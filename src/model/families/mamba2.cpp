// headlens/model: the Mamba-2 family.
#include "model/families/family.h"

namespace headlens {
namespace {

using nlohmann::json;

Mamba2Spec read_mixer(const JsonFields& fields, int64_t d_model, double norm_eps) {
  Mamba2Spec spec;
  spec.heads = read_size(fields, "num_heads");
  spec.d_head = read_size(fields, "head_dim");
  spec.d_state = read_size(fields, "state_size");
  spec.groups = read_size(fields, "n_groups", 8);
  spec.d_conv = read_size(fields, "conv_kernel", 4);
  spec.chunk = read_size(fields, "chunk_size", 256);
  spec.conv_bias = fields.optional("use_conv_bias", true);
  spec.proj_bias = fields.optional("use_bias", false);
  spec.out_bias = spec.proj_bias;
  spec.norm_eps = norm_eps;
  read_time_step_limit(fields, spec);
  allow_only(fields, "hidden_act", {"silu", "swish"});
  allow_only(fields, "intermediate_size", {spec.d_inner()});
  check_divides(fields, "num_heads", spec.heads, "n_groups", spec.groups);
  const double inner = fields.optional("expand", 2.0) * static_cast<double>(d_model);
  HEADLENS_CHECK(ConfigError, inner == static_cast<double>(spec.d_inner()),
                 "[{}] expand * hidden_size, expected num_heads * head_dim = {}, got {}",
                 fields.where(), spec.d_inner(), inner);
  return spec;
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.vocab_size = read_size(fields, "vocab_size");
  config.d_model = read_size(fields, "hidden_size");
  config.norm_eps = read_norm_eps(fields, "layer_norm_epsilon", 1e-5);
  config.tied_embeddings = fields.optional("tie_word_embeddings", false);
  config.residual_in_fp32 = fields.optional("residual_in_fp32", true);

  const Mamba2Spec mixer = read_mixer(fields, config.d_model, config.norm_eps);
  config.layers.assign(static_cast<size_t>(read_layer_count(fields, "num_hidden_layers")),
                       LayerSpec{mixer, std::nullopt});
  allow_only(fields, "rms_norm", {true});
  // How the first weights are drawn; and norm_before_gate, which transformers stores and never
  // reads.
  fields.ignore({"time_step_rank", "time_step_min", "time_step_max", "time_step_floor",
                 "time_step_scale", "time_step_init_scheme", "rescale_prenorm_residual",
                 "norm_before_gate"});
  return config;
}

json write(const ModelConfig& config) {
  const Mamba2Spec& mixer = uniform_mixer<Mamba2Spec>(config);
  json out = write_bookkeeping(mamba2_family(), config);
  out.update({{"hidden_size", config.d_model},
              {"expand", mixer.d_inner() / config.d_model},
              {"num_hidden_layers", config.layers.size()},
              {"num_heads", mixer.heads},
              {"head_dim", mixer.d_head},
              {"state_size", mixer.d_state},
              {"n_groups", mixer.groups},
              {"conv_kernel", mixer.d_conv},
              {"chunk_size", mixer.chunk},
              {"use_conv_bias", mixer.conv_bias},
              {"use_bias", mixer.proj_bias},
              {"hidden_act", "silu"},
              {"layer_norm_epsilon", config.norm_eps},
              {"residual_in_fp32", config.residual_in_fp32},
              {"tie_word_embeddings", config.tied_embeddings}});
  write_time_step_limit(mixer, out);
  return out;
}

}  // namespace

Family mamba2_family() {
  return {"mamba2", "mamba2", {"Mamba2ForCausalLM"},
          parse,    write,    {mamba_names("backbone.embeddings")}};
}

}  // namespace headlens
