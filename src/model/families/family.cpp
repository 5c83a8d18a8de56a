// headlens/model: the readers and writers that families share.
#include "model/families/family.h"

#include <cmath>
#include <limits>

#include "headlens/core/dtype.h"

namespace headlens {
namespace {

using nlohmann::json;

// What transformers stores of its own in any config.json; no forward of these families reads it.
const std::initializer_list<std::string_view> kBaseKeys = {"_name_or_path",
                                                           "_attn_implementation_autoset",
                                                           "transformers_version",
                                                           "auto_map",
                                                           "use_cache",
                                                           "initializer_range",
                                                           "pad_token_id",
                                                           "bos_token_id",
                                                           "sep_token_id",
                                                           "max_position_embeddings",
                                                           "attention_dropout",
                                                           "pretraining_tp",
                                                           "num_logits_to_keep",
                                                           "return_dict",
                                                           "output_hidden_states",
                                                           "output_attentions",
                                                           "torchscript",
                                                           "use_bfloat16",
                                                           "tf_legacy_loss",
                                                           "chunk_size_feed_forward",
                                                           "cross_attention_hidden_size",
                                                           "tie_encoder_decoder",
                                                           "finetuning_task",
                                                           "id2label",
                                                           "label2id",
                                                           "num_labels",
                                                           "tokenizer_class",
                                                           "prefix",
                                                           "decoder_start_token_id",
                                                           "task_specific_params",
                                                           "problem_type"};
const std::initializer_list<std::string_view> kGenerationKeys = {
    "max_length",
    "min_length",
    "do_sample",
    "early_stopping",
    "num_beams",
    "num_beam_groups",
    "diversity_penalty",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "num_return_sequences",
    "output_scores",
    "return_dict_in_generate",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "suppress_tokens",
    "begin_suppress_tokens",
    "exponential_decay_length_penalty"};

int64_t check_size(const JsonFields& fields, std::string_view key, int64_t size, int64_t most) {
  HEADLENS_CHECK(ConfigError, 1 <= size && size <= most, "[{}] key '{}', expected 1 to {}, got {}",
                 fields.where(), key, most, size);
  return size;
}

std::vector<int64_t> read_eos(const JsonFields& fields) {
  const json* value = fields.find("eos_token_id");
  if (value == nullptr) return {};
  if (value->is_array()) return fields.required<std::vector<int64_t>>("eos_token_id");
  return {fields.required<int64_t>("eos_token_id")};
}

std::string read_dtype(const JsonFields& fields) {
  const char* key = fields.has("dtype") ? "dtype" : "torch_dtype";
  const std::string old_name = fields.optional<std::string>("torch_dtype", "float32");
  const std::string name = fields.optional<std::string>("dtype", old_name);
  try {
    return dtype_name(parse_dtype(name));
  } catch (const ConfigError&) {
    HEADLENS_FAIL(ConfigError,
                  "[{}] key '{}', expected float32, bfloat16, float16 or float64, got '{}'",
                  fields.where(), key, name);
  }
}

}  // namespace

int64_t read_size(const JsonFields& fields, std::string_view key) {
  return check_size(fields, key, fields.required<int64_t>(key),
                    std::numeric_limits<int32_t>::max());
}

int64_t read_size(const JsonFields& fields, std::string_view key, int64_t fallback) {
  return fields.has(key) ? read_size(fields, key) : fields.optional<int64_t>(key, fallback);
}

int64_t read_layer_count(const JsonFields& fields, std::string_view key) {
  return check_size(fields, key, fields.required<int64_t>(key), kMaxLayers);
}

void check_divides(const JsonFields& fields, std::string_view whole_key, int64_t whole,
                   std::string_view part_key, int64_t part) {
  HEADLENS_CHECK(ConfigError, part > 0 && whole % part == 0,
                 "[{}] {}, expected a multiple of {} = {}, got {}", fields.where(), whole_key,
                 part_key, part, whole);
}

void allow_only(const JsonFields& fields, std::string_view key,
                std::initializer_list<json> values) {
  const json* value = fields.find(key);
  if (value == nullptr) return;
  std::string expected;
  for (const json& allowed : values) {
    if (*value == allowed) return;
    expected += (expected.empty() ? "" : " or ") + allowed.dump();
  }
  HEADLENS_FAIL(ConfigError, "[{}] key '{}', expected {} (nothing else is handled), got {}",
                fields.where(), key, expected.empty() ? "null" : expected, describe_json(*value));
}

double read_norm_eps(const JsonFields& fields, std::string_view key, double fallback) {
  const double eps = fields.optional(key, fallback);
  HEADLENS_CHECK(ConfigError, std::isfinite(eps) && eps >= 0,
                 "[{}] key '{}', expected a finite number from 0, got {}", fields.where(), key,
                 eps);
  return eps;
}

Activation read_activation(const JsonFields& fields, std::string_view key,
                           std::string_view fallback) {
  const std::string name = fields.optional<std::string>(key, std::string(fallback));
  if (name == "silu" || name == "swish") return Activation::Silu;
  if (name == "gelu") return Activation::Gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") {
    return Activation::GeluTanh;
  }
  if (name == "relu") return Activation::Relu;
  if (name == "relu2") return Activation::Relu2;
  HEADLENS_FAIL(ConfigError,
                "[{}] key '{}', expected silu, gelu, gelu_new, gelu_pytorch_tanh, relu or relu2, "
                "got '{}'",
                fields.where(), key, name);
}

std::string activation_name(Activation activation) {
  switch (activation) {
    case Activation::Silu:
      return "silu";
    case Activation::Gelu:
      return "gelu";
    case Activation::GeluTanh:
      return "gelu_pytorch_tanh";
    case Activation::Relu:
      return "relu";
    case Activation::Relu2:
      return "relu2";
  }
  return "silu";
}

TensorNames mamba_names(const std::string& embed) {
  TensorNames names;
  names.embed = embed;
  names.layer = "backbone.layers.{}";
  names.norm1 = "norm";
  names.norm2 = "norm2";
  names.attention.scope = "mixer";
  names.mixer = "mixer";
  names.final_norm = "backbone.norm_f";
  return names;
}

void read_time_step_limit(const JsonFields& fields, Mamba2Spec& spec) {
  if (!fields.has("time_step_limit")) return;  // the formats' own default: [0, infinity]
  const auto limit = fields.required<std::vector<double>>("time_step_limit");
  HEADLENS_CHECK(
      ConfigError, limit.size() == 2 && 0 <= limit[0] && limit[0] <= limit[1] && limit[1] > 0,
      "[{}] key 'time_step_limit', expected [min, max] with 0 <= min <= max and max > 0, got [{}]",
      fields.where(), fmt::join(limit, ", "));
  spec.dt_min = limit[0];
  spec.dt_max = std::isinf(limit[1]) ? 0 : limit[1];
}

void write_time_step_limit(const Mamba2Spec& spec, json& out) {
  if (spec.dt_min == 0 && spec.dt_max == 0) return;
  const json infinity = {{"__float__", "Infinity"}};
  out["time_step_limit"] = {spec.dt_min, spec.dt_max > 0 ? json(spec.dt_max) : infinity};
}

void read_bookkeeping(const JsonFields& fields, ModelConfig& config) {
  config.dtype = read_dtype(fields);
  config.eos_token_ids = read_eos(fields);
  allow_only(fields, "pruned_heads", {json::object()});
  allow_only(fields, "is_decoder", {true, false});
  allow_only(fields, "is_encoder_decoder", {false});
  allow_only(fields, "add_cross_attention", {false});
  fields.ignore(kBaseKeys);
  fields.ignore(kGenerationKeys);
}

json write_bookkeeping(const Family& family, const ModelConfig& config) {
  json out = {{"architectures", {family.architectures.at(0)}},
              {"model_type", family.model_type},
              {"vocab_size", config.vocab_size},
              {"torch_dtype", config.dtype}};
  if (config.eos_token_ids.size() == 1) out["eos_token_id"] = config.eos_token_ids[0];
  if (config.eos_token_ids.size() > 1) out["eos_token_id"] = config.eos_token_ids;
  if (config.eos_token_ids.empty()) out["eos_token_id"] = nullptr;
  return out;
}

}  // namespace headlens
