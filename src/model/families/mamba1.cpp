// headlens/model: the families of Mamba-1 layers, Mamba and Falcon-Mamba.
#include "model/families/family.h"

namespace headlens {
namespace {

using nlohmann::json;

/// `time_step_rank`: a number, or "auto" for ceil(d_model / 16).
int64_t read_dt_rank(const JsonFields& fields, int64_t d_model) {
  const json* value = fields.find("time_step_rank");
  if (value == nullptr || *value == "auto") return (d_model + 15) / 16;
  return read_size(fields, "time_step_rank");
}

Mamba1Spec read_mixer(const JsonFields& fields, int64_t d_model) {
  Mamba1Spec spec;
  // Falcon-Mamba-7B says expand 16 and intermediate_size 8192 with d_model 4096: the size counts.
  const int64_t expand = read_size(fields, "expand", 2);
  spec.d_inner = read_size(fields, "intermediate_size", expand * d_model);
  spec.d_state = read_size(fields, "state_size", 16);
  spec.d_conv = read_size(fields, "conv_kernel", 4);
  spec.dt_rank = read_dt_rank(fields, d_model);
  spec.conv_bias = fields.optional("use_conv_bias", true);
  spec.proj_bias = fields.optional("use_bias", false);
  allow_only(fields, "hidden_act", {"silu", "swish"});
  return spec;
}

/// Keys that checkpoints converted from the authors' own format repeat, and that transformers never
/// reads.
void check_native_twins(const JsonFields& fields, const ModelConfig& config) {
  const auto& mixer = std::get<Mamba1Spec>(*config.layers[0].mixer);
  allow_only(fields, "d_model", {config.d_model});
  allow_only(fields, "d_inner", {mixer.d_inner});
  allow_only(fields, "n_layer", {config.layers.size()});
  allow_only(fields, "rms_norm", {true});
  allow_only(fields, "ssm_cfg", {json::object()});
  fields.ignore({"fused_add_norm", "pad_vocab_size_multiple"});
}

ModelConfig parse_with(const JsonFields& fields, bool falcon) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.vocab_size = read_size(fields, "vocab_size");
  config.d_model = read_size(fields, "hidden_size");
  config.norm_eps = read_norm_eps(fields, "layer_norm_epsilon", 1e-5);
  config.tied_embeddings = fields.optional("tie_word_embeddings", true);
  config.residual_in_fp32 = fields.optional("residual_in_fp32", true);

  Mamba1Spec mixer = read_mixer(fields, config.d_model);
  if (falcon) mixer.bcdt_rms_eps = read_norm_eps(fields, "mixer_rms_eps", 1e-6);
  config.layers.assign(static_cast<size_t>(read_layer_count(fields, "num_hidden_layers")),
                       LayerSpec{mixer, std::nullopt});
  check_native_twins(fields, config);
  // How the first weights are drawn, and which of several equal scans runs.
  fields.ignore({"time_step_min", "time_step_max", "time_step_floor", "time_step_scale",
                 "time_step_init_scheme", "rescale_prenorm_residual", "use_mambapy",
                 "use_falcon_mambapy", "use_associative_scan"});
  return config;
}

ModelConfig parse_mamba(const JsonFields& fields) {
  return parse_with(fields, /*falcon=*/false);
}
ModelConfig parse_falcon(const JsonFields& fields) {
  return parse_with(fields, /*falcon=*/true);
}

json write_with(const Family& family, const ModelConfig& config) {
  const Mamba1Spec& mixer = uniform_mixer<Mamba1Spec>(config);
  json out = write_bookkeeping(family, config);
  out.update({{"hidden_size", config.d_model},
              {"intermediate_size", mixer.d_inner},
              {"expand", std::max<int64_t>(1, mixer.d_inner / config.d_model)},
              {"num_hidden_layers", config.layers.size()},
              {"state_size", mixer.d_state},
              {"conv_kernel", mixer.d_conv},
              {"time_step_rank", mixer.dt_rank},
              {"use_conv_bias", mixer.conv_bias},
              {"use_bias", mixer.proj_bias},
              {"hidden_act", "silu"},
              {"layer_norm_epsilon", config.norm_eps},
              {"residual_in_fp32", config.residual_in_fp32},
              {"tie_word_embeddings", config.tied_embeddings}});
  if (mixer.bcdt_rms_eps) out["mixer_rms_eps"] = *mixer.bcdt_rms_eps;
  return out;
}

json write_mamba(const ModelConfig& config) {
  return write_with(mamba_family(), config);
}
json write_falcon(const ModelConfig& config) {
  return write_with(falcon_mamba_family(), config);
}

}  // namespace

Family mamba_family() {
  return {"mamba",     "mamba",     {"MambaForCausalLM"},
          parse_mamba, write_mamba, {mamba_names("backbone.embeddings")}};
}

Family falcon_mamba_family() {
  return {"falcon_mamba", "falcon_mamba", {"FalconMambaForCausalLM"},
          parse_falcon,   write_falcon,   {mamba_names("backbone.embeddings")}};
}

}  // namespace headlens
