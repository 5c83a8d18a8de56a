// headlens/model: Mamba and Mamba-2 in their authors' own layout (state-spaces).
#include <cmath>

#include "model/families/family.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr double kNormEps = 1e-5;  // fixed in the authors' code

/// `ssm_cfg`'s fields, whose "layer" says which of the two it is.
JsonFields ssm_fields(const JsonFields& fields) {
  static const json kNone = json::object();
  if (fields.has("ssm_cfg")) return fields.object("ssm_cfg");
  return JsonFields(kNone, fields.where());
}

ModelConfig read_common(const JsonFields& fields) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.d_model = read_size(fields, "d_model");
  const int64_t vocab = read_size(fields, "vocab_size");
  const int64_t multiple = read_size(fields, "pad_vocab_size_multiple", 8);
  config.vocab_size = (vocab + multiple - 1) / multiple * multiple;
  config.norm_eps = kNormEps;
  config.tied_embeddings = fields.optional("tie_embeddings", true);
  config.residual_in_fp32 = fields.optional("residual_in_fp32", true);
  allow_only(fields, "rms_norm", {true});
  allow_only(fields, "d_intermediate", {0});
  allow_only(fields, "attn_layer_idx", {json::array()});
  allow_only(fields, "attn_cfg", {json::object()});
  fields.ignore({"fused_add_norm"});
  return config;
}

Mamba1Spec read_mamba1(const JsonFields& ssm, int64_t d_model) {
  Mamba1Spec spec;
  spec.d_inner = read_size(ssm, "expand", 2) * d_model;
  spec.d_state = read_size(ssm, "d_state", 16);
  spec.d_conv = read_size(ssm, "d_conv", 4);
  const json* rank = ssm.find("dt_rank");
  const bool automatic = rank == nullptr || *rank == "auto";
  spec.dt_rank = automatic ? (d_model + 15) / 16 : read_size(ssm, "dt_rank");
  spec.conv_bias = ssm.optional("conv_bias", true);
  spec.proj_bias = ssm.optional("bias", false);
  return spec;
}

Mamba2Spec read_mamba2(const JsonFields& ssm, int64_t d_model) {
  Mamba2Spec spec;
  const int64_t d_inner = read_size(ssm, "expand", 2) * d_model;
  spec.d_head = read_size(ssm, "headdim", 64);
  check_divides(ssm, "expand * d_model", d_inner, "headdim", spec.d_head);
  allow_only(ssm, "d_ssm", {d_inner});
  spec.heads = d_inner / spec.d_head;
  spec.d_state = read_size(ssm, "d_state", 128);
  spec.groups = read_size(ssm, "ngroups", 1);
  check_divides(ssm, "heads", spec.heads, "ngroups", spec.groups);
  spec.norm_groups = spec.groups;  // transformers norms over all of d_inner instead
  spec.d_conv = read_size(ssm, "d_conv", 4);
  spec.chunk = read_size(ssm, "chunk_size", 256);
  spec.conv_bias = ssm.optional("conv_bias", true);
  spec.proj_bias = spec.out_bias = ssm.optional("bias", false);
  spec.norm_eps = kNormEps;
  const bool norm_first = ssm.optional("norm_before_gate", false);
  spec.gated_norm = norm_first ? GatedNorm::NormFirst : GatedNorm::GateFirst;
  if (!ssm.optional("rmsnorm", true)) spec.gated_norm = GatedNorm::GateOnly;
  allow_only(ssm, "D_has_hdim", {false});
  const auto limit = ssm.optional("dt_limit", std::vector<double>{0, INFINITY});
  HEADLENS_CHECK(
      ConfigError, limit.size() == 2 && 0 <= limit[0] && limit[0] <= limit[1] && limit[1] > 0,
      "[{}] key 'dt_limit', expected [min, max] with 0 <= min <= max and max > 0, got [{}]",
      ssm.where(), fmt::join(limit, ", "));
  spec.dt_min = limit[0];
  spec.dt_max = std::isinf(limit[1]) ? 0 : limit[1];
  return spec;
}

/// How first weights are drawn, and which of several equal scans runs.
void ignore_unused(const JsonFields& ssm) {
  ssm.ignore({"layer", "dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "use_fast_path",
              "use_mem_eff_path", "A_init_range", "conv_init", "process_group",
              "sequence_parallel"});
}

template <typename Read>
ModelConfig parse_with(const JsonFields& fields, Read read) {
  ModelConfig config = read_common(fields);
  const JsonFields ssm = ssm_fields(fields);
  const LayerSpec layer{read(ssm, config.d_model), std::nullopt};
  ignore_unused(ssm);
  config.layers.assign(static_cast<size_t>(read_layer_count(fields, "n_layer")), layer);
  return config;
}

ModelConfig parse_mamba(const JsonFields& fields) {
  return parse_with(fields, read_mamba1);
}
ModelConfig parse_mamba2(const JsonFields& fields) {
  return parse_with(fields, read_mamba2);
}

json write_common(const ModelConfig& config, const json& ssm) {
  return {{"d_model", config.d_model},
          {"n_layer", config.layers.size()},
          {"vocab_size", config.vocab_size},
          {"pad_vocab_size_multiple", 1},
          {"ssm_cfg", ssm},
          {"rms_norm", true},
          {"residual_in_fp32", config.residual_in_fp32},
          {"tie_embeddings", config.tied_embeddings},
          {"torch_dtype", config.dtype},
          {"eos_token_id", config.eos_token_ids}};
}

json write_mamba(const ModelConfig& config) {
  const Mamba1Spec& spec = uniform_mixer<Mamba1Spec>(config);
  return write_common(config, {{"layer", "Mamba1"},
                               {"d_state", spec.d_state},
                               {"d_conv", spec.d_conv},
                               {"expand", spec.d_inner / config.d_model},
                               {"dt_rank", spec.dt_rank},
                               {"conv_bias", spec.conv_bias},
                               {"bias", spec.proj_bias}});
}

json write_mamba2(const ModelConfig& config) {
  const Mamba2Spec& spec = uniform_mixer<Mamba2Spec>(config);
  json ssm = {{"layer", "Mamba2"},
              {"d_state", spec.d_state},
              {"d_conv", spec.d_conv},
              {"expand", spec.d_inner() / config.d_model},
              {"headdim", spec.d_head},
              {"ngroups", spec.groups},
              {"chunk_size", spec.chunk},
              {"conv_bias", spec.conv_bias},
              {"bias", spec.proj_bias},
              {"rmsnorm", spec.gated_norm != GatedNorm::GateOnly},
              {"norm_before_gate", spec.gated_norm == GatedNorm::NormFirst}};
  if (spec.dt_max > 0) ssm["dt_limit"] = {spec.dt_min, spec.dt_max};
  if (spec.dt_max == 0 && spec.dt_min > 0) {
    ssm["dt_limit"] = {json(spec.dt_min), json{{"__float__", "Infinity"}}};
  }
  return write_common(config, ssm);
}

}  // namespace

Family mamba_native_family() {
  return {"mamba_native", "",          {"MambaLMHeadModel"},
          parse_mamba,    write_mamba, {mamba_names("backbone.embedding")}};
}

Family mamba2_native_family() {
  return {"mamba2_native", "",           {"MambaLMHeadModel"},
          parse_mamba2,    write_mamba2, {mamba_names("backbone.embedding")}};
}

}  // namespace headlens
