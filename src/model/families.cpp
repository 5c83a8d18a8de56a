// headlens/model: the table of checkpoint families.
#include "headlens/model/families.h"

#include "core/check.h"
#include "core/json_fields.h"
#include "core/near_words.h"
#include "model/families/family.h"

namespace headlens {
namespace {

const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      llama_family(),        mistral_family(),       qwen2_family(),        qwen3_family(),
      gemma2_family(),       phi3_family(),          olmo2_family(),        gpt_neox_family(),
      gpt2_family(),         mamba_family(),         falcon_mamba_family(), mamba2_family(),
      mamba_native_family(), mamba2_native_family(), llamba_family(),       bamba_family(),
      nemotron_h_family(),   falcon_h1_family(),     zamba2_family(),       jamba_family()};
  return all;
}

const Family* find_family(std::string_view name) {
  for (const Family& family : families()) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

const Family& family_named(std::string_view name) {
  const Family* family = find_family(name);
  HEADLENS_CHECK(ConfigError, family != nullptr,
                 "[families] family, expected a known one, got '{}'", name);
  return *family;
}

/// The state-spaces authors' configs name no class: d_model, n_layer, and ssm_cfg's layer.
const Family* recognise_native(const JsonFields& json) {
  if (!json.value().contains("d_model") || !json.value().contains("n_layer")) return nullptr;
  const auto ssm = json.value().find("ssm_cfg");
  const bool two = ssm != json.value().end() && ssm->is_object() &&
                   ssm->value("layer", nlohmann::json("Mamba1")) == "Mamba2";
  return find_family(two ? "mamba2_native" : "mamba_native");
}

/// By architectures[0]; by model_type where a config has no architectures (Llamba's may not).
const Family& recognise(const JsonFields& json, std::string& architecture) {
  const auto architectures = json.optional("architectures", std::vector<std::string>());
  const auto model_type = json.optional("model_type", std::string());
  const bool unnamed = architectures.empty() && model_type.empty();
  if (unnamed || (!architectures.empty() && architectures[0] == "MambaLMHeadModel")) {
    if (const Family* native = recognise_native(json)) {
      architecture = native->architectures[0];
      return *native;
    }
  }
  for (const Family& family : families()) {
    const auto& names = family.architectures;
    const bool match = architectures.empty()
                           ? family.model_type == model_type
                           : std::find(names.begin(), names.end(), architectures[0]) != names.end();
    if (!match) continue;
    HEADLENS_CHECK(ConfigError, model_type.empty() || model_type == family.model_type,
                   "[{}] key 'model_type', expected '{}' beside architectures {}, got '{}'",
                   json.where(), family.model_type, fmt::join(architectures, ", "), model_type);
    architecture = architectures.empty() ? names[0] : architectures[0];
    return family;
  }
  const std::string& named = architectures.empty() ? model_type : architectures[0];
  HEADLENS_FAIL(ConfigError, "[{}] architecture, expected one of {}, got '{}'{}", json.where(),
                fmt::join(known_architectures(), ", "), named,
                suggestion(named, known_architectures()));
}

}  // namespace

ModelConfig parse_model_config(std::string_view config_json, std::string_view where) {
  const JsonFields json(parse_json(config_json, std::string(where)), std::string(where));
  std::string architecture;
  const Family& family = recognise(json, architecture);
  ModelConfig config = family.parse(json);
  json.check_all_read();
  config.family = family.name;
  config.architecture = architecture;
  return config;
}

std::string write_model_config(const ModelConfig& config) {
  std::string text = family_named(config.family).write(config).dump(2) + "\n";
  // A format holds less than a ModelConfig can say: what it would lose is an error, not a surprise.
  ModelConfig written = parse_model_config(text, "write_model_config");
  written.architecture = config.architecture;
  HEADLENS_CHECK(ConfigError, written == config,
                 "[write_model_config] config, expected one that a config.json of family '{}' can "
                 "say, got more",
                 config.family);
  return text;
}

const TensorNames& tensor_names(std::string_view family) {
  return family_named(family).tensors.front();
}

const TensorNames& tensor_names(const ModelConfig& config, const WeightScope& weights) {
  const auto& all = family_named(config.family).tensors;
  for (const TensorNames& names : all) {
    const bool has_head = config.tied_embeddings || weights.has(names.lm_head + ".weight");
    if (weights.has(names.embed + ".weight") && has_head) return names;
  }
  return all.front();
}

bool is_known_family(std::string_view name) {
  return find_family(name) != nullptr;
}

std::vector<std::string> ignored_tensors(const ModelConfig& config) {
  std::vector<std::string> globs;
  for (const TensorNames& names : family_named(config.family).tensors) {
    const std::vector<std::string> more = ignored_tensors(config, names);
    globs.insert(globs.end(), more.begin(), more.end());
  }
  return globs;
}

std::vector<std::string> ignored_tensors(const ModelConfig& config, const TensorNames& names) {
  std::vector<std::string> globs = names.unread;
  // Older checkpoints carry the rotary frequencies as a buffer.
  globs.push_back("*.rotary_emb.inv_freq");
  // A tied head that is stored as well is the embedding (language_model.cpp looks).
  if (config.tied_embeddings) globs.push_back(names.lm_head + ".weight");
  // Other uses of a shared block may be stored as well; transformers reads the first.
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerSpec& layer = config.layers[i];
    if (layer.wiring != Wiring::SharedBlock) continue;
    const std::string shared = fmt::format("model.layers.{}.shared_transformer.*", i);
    const bool own = layer.shared_from == static_cast<int64_t>(i);
    if (!own) globs.push_back(shared);
    // Blocks that are not shared still bring the adapters of other uses.
    if (own && !config.tied_embeddings) globs.push_back(shared + "_adapter_list.*");
  }
  return globs;
}

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const Family& family : families()) {
    const std::string& name = family.architectures[0];  // two families may share a class
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

}  // namespace headlens
