// headlens/model: a checkpoint family of one's own: its specs are checked before a model is built.
#include "headlens/model/custom_family.h"

#include "core/check.h"

namespace headlens {
namespace {

/// Checks specs for one layer; every message names the file and the layer.
class SpecChecks {
 public:
  SpecChecks(std::string_view where, size_t layer) : where_(where), layer_(layer) {}

  void operator()(const AttentionSpec& spec) const {
    sizes({{"heads", spec.heads}, {"kv_heads", spec.kv_heads}, {"d_head", spec.d_head}});
    divides("heads", spec.heads, "kv_heads", spec.kv_heads);
  }
  void operator()(const Mamba1Spec& spec) const {
    sizes({{"d_inner", spec.d_inner},
           {"d_state", spec.d_state},
           {"d_conv", spec.d_conv},
           {"dt_rank", spec.dt_rank}});
  }
  void operator()(const Mamba2Spec& spec) const {
    sizes({{"heads", spec.heads},
           {"d_head", spec.d_head},
           {"d_state", spec.d_state},
           {"groups", spec.groups},
           {"d_conv", spec.d_conv},
           {"chunk", spec.chunk},
           {"norm_groups", spec.norm_groups}});
    divides("heads", spec.heads, "groups", spec.groups);
    divides("d_inner", spec.d_inner(), "norm_groups", spec.norm_groups);
  }
  void operator()(const DiscreteMamba2Spec& spec) const {
    sizes({{"v_heads", spec.v_heads},
           {"qk_heads", spec.qk_heads},
           {"d_head", spec.d_head},
           {"d_state", spec.d_state},
           {"d_conv", spec.d_conv},
           {"chunk", spec.chunk}});
    divides("v_heads", spec.v_heads, "qk_heads", spec.qk_heads);
  }
  void operator()(const MlpSpec& spec) const { sizes({{"d_mlp", spec.d_mlp}}); }

 private:
  void sizes(std::initializer_list<std::pair<const char*, int64_t>> named) const {
    for (const auto& [name, size] : named) {
      HEADLENS_CHECK(ConfigError, size >= 1, "[{}] layer {}: {}, expected 1 or more, got {}",
                     where_, layer_, name, size);
    }
  }
  void divides(const char* whole_name, int64_t whole, const char* part_name, int64_t part) const {
    HEADLENS_CHECK(ConfigError, whole % part == 0,
                   "[{}] layer {}: {}, expected a multiple of {} = {}, got {}", where_, layer_,
                   whole_name, part_name, part, whole);
  }

  std::string_view where_;
  size_t layer_;
};

void check_specs(const ModelConfig& config, std::string_view where) {
  HEADLENS_CHECK(
      ConfigError, config.vocab_size >= 1 && config.d_model >= 1 && !config.layers.empty(),
      "[{}] specs, expected a vocabulary, a width and layers, got vocab_size {}, d_model "
      "{} and {} layers",
      where, config.vocab_size, config.d_model, config.layers.size());
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerSpec& layer = config.layers[i];
    const SpecChecks check(where, i);
    HEADLENS_CHECK(ConfigError, layer.mixer || layer.mlp,
                   "[{}] layer {}, expected a mixer or an MLP, got neither", where, i);
    if (layer.mixer) std::visit(check, *layer.mixer);
    if (layer.attention) check(*layer.attention);
    if (layer.mlp) check(*layer.mlp);
  }
}

}  // namespace

ModelConfig parse_model_config(std::string_view config_json, const CustomFamily& family,
                               std::string_view where) {
  HEADLENS_CHECK(ConfigError, family.parse != nullptr && !family.name.empty(),
                 "[{}] custom family, expected a name and a parser, got {}", where,
                 family.name.empty() ? "no name" : "no parser");
  HEADLENS_CHECK(ConfigError, !is_known_family(family.name),
                 "[{}] custom family, expected a name that no built-in family has, got '{}'", where,
                 family.name);
  ModelConfig config = family.parse(config_json);
  config.family = family.name;
  check_specs(config, where);
  return config;
}

}  // namespace headlens
