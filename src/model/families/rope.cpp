// headlens/model: rotary settings of a config.json, in the dialects of transformers 4 and 5.
#include <cmath>

#include "model/families/family.h"

namespace headlens {
namespace {

using nlohmann::json;

double read_positive(const JsonFields& rope, const char* key) {
  const double value = rope.required<double>(key);
  HEADLENS_CHECK(ConfigError, std::isfinite(value) && value > 0,
                 "[{}] rope key '{}', expected a finite number > 0, got {}", rope.where(), key,
                 value);
  return value;
}

/// The length a model was trained on first: the top level's word counts before the rope's own, and
/// without either it is max_position_embeddings (as transformers has it).
double read_original_length(const JsonFields& fields, const JsonFields& rope) {
  constexpr const char* kKey = "original_max_position_embeddings";
  const double own = rope.has(kKey) ? read_positive(rope, kKey) : 0;
  if (fields.has(kKey)) return read_positive(fields, kKey);
  return own > 0 ? own : read_positive(fields, "max_position_embeddings");
}

/// `factor`, or the ratio of the two lengths where it is absent.
double read_factor(const JsonFields& fields, const JsonFields& rope, double original) {
  if (rope.has("factor")) return read_positive(rope, "factor");
  return read_positive(fields, "max_position_embeddings") / original;
}

DynamicRopeScaling read_dynamic(const JsonFields& fields, const JsonFields& rope) {
  return {read_positive(rope, "factor"), read_positive(fields, "max_position_embeddings")};
}

Llama3RopeScaling read_llama3(const JsonFields& fields, const JsonFields& rope) {
  Llama3RopeScaling scaling;
  scaling.factor = read_positive(rope, "factor");
  scaling.low_freq_factor = rope.required<double>("low_freq_factor");
  scaling.high_freq_factor = rope.required<double>("high_freq_factor");
  scaling.original_max_position = read_original_length(fields, rope);
  HEADLENS_CHECK(ConfigError, scaling.low_freq_factor < scaling.high_freq_factor,
                 "[{}] llama3 rope, expected low_freq_factor < high_freq_factor, got {} and {}",
                 rope.where(), scaling.low_freq_factor, scaling.high_freq_factor);
  return scaling;
}

/// YaRN's temperature for a stretch by `factor`.
double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

YarnRopeScaling read_yarn(const JsonFields& fields, const JsonFields& rope) {
  YarnRopeScaling scaling;
  scaling.original_max_position = read_original_length(fields, rope);
  scaling.factor = read_factor(fields, rope, scaling.original_max_position);
  const double fast = rope.optional("beta_fast", 32.0), slow = rope.optional("beta_slow", 1.0);
  scaling.beta_fast = fast == 0 ? 32 : fast;  // 0 counts as absent
  scaling.beta_slow = slow == 0 ? 1 : slow;
  scaling.truncate = rope.optional("truncate", true);
  const double mscale = rope.optional("mscale", 0.0),
               all_dim = rope.optional("mscale_all_dim", 0.0);
  const double inferred = mscale != 0 && all_dim != 0 ? yarn_mscale(scaling.factor, mscale) /
                                                            yarn_mscale(scaling.factor, all_dim)
                                                      : yarn_mscale(scaling.factor, 1);
  scaling.attention_factor = rope.optional("attention_factor", inferred);
  return scaling;
}

std::vector<double> read_factors(const JsonFields& rope, const char* key, int64_t rotary_dim) {
  auto factors = rope.required<std::vector<double>>(key);
  HEADLENS_CHECK(ConfigError, std::ssize(factors) == rotary_dim / 2,
                 "[{}] rope key '{}', expected {} numbers, got {}", rope.where(), key,
                 rotary_dim / 2, factors.size());
  for (const double factor : factors) {
    HEADLENS_CHECK(ConfigError, std::isfinite(factor) && factor > 0,
                   "[{}] rope key '{}', expected finite numbers > 0, got {}", rope.where(), key,
                   factor);
  }
  return factors;
}

LongRopeScaling read_longrope(const JsonFields& fields, const JsonFields& rope,
                              int64_t rotary_dim) {
  LongRopeScaling scaling;
  scaling.short_factor = read_factors(rope, "short_factor", rotary_dim);
  scaling.long_factor = read_factors(rope, "long_factor", rotary_dim);
  scaling.original_max_position = read_original_length(fields, rope);
  const double factor = read_factor(fields, rope, scaling.original_max_position);
  const double inferred =
      factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(scaling.original_max_position));
  scaling.attention_factor = rope.optional("attention_factor", inferred);
  return scaling;
}

/// The type and its numbers from `rope_parameters` or `rope_scaling`.
RopeScaling read_scaling(const JsonFields& fields, const JsonFields& rope, int64_t rotary_dim) {
  const std::string legacy = rope.optional<std::string>("type", "default");
  const std::string type = rope.optional<std::string>("rope_type", legacy);
  if (type == "linear") return LinearRopeScaling{read_positive(rope, "factor")};
  if (type == "dynamic") return read_dynamic(fields, rope);
  if (type == "llama3") return read_llama3(fields, rope);
  if (type == "yarn") return read_yarn(fields, rope);
  if (type == "longrope" || type == "su") return read_longrope(fields, rope, rotary_dim);
  HEADLENS_CHECK(ConfigError, type == "default",
                 "[{}] rope type, expected default, linear, dynamic, llama3, yarn or longrope, "
                 "got '{}'",
                 rope.where(), type);
  return std::monostate();
}

/// `partial_rotary_factor` must be the family's. Where whole heads turn and nothing scales them,
/// transformers never reads it.
void check_partial(const JsonFields& fields, const RopeSpec& rope, double rotary_factor) {
  const bool plain = std::holds_alternative<std::monostate>(rope.scaling);
  if (plain && rotary_factor == 1) return fields.ignore({"partial_rotary_factor"});
  allow_only(fields, "partial_rotary_factor", {rotary_factor});
}

/// One function a scaling: the keys of `rope_scaling`.
struct WriteScaling {
  json& out;  // the whole config

  json operator()(const std::monostate&) const { return nullptr; }
  json operator()(const LinearRopeScaling& s) const {
    return {{"rope_type", "linear"}, {"factor", s.factor}};
  }
  json operator()(const DynamicRopeScaling& s) const {
    out["max_position_embeddings"] = static_cast<int64_t>(s.max_position);
    return {{"rope_type", "dynamic"}, {"factor", s.factor}};
  }
  json operator()(const Llama3RopeScaling& s) const {
    return {{"rope_type", "llama3"},
            {"factor", s.factor},
            {"low_freq_factor", s.low_freq_factor},
            {"high_freq_factor", s.high_freq_factor},
            {"original_max_position_embeddings", static_cast<int64_t>(s.original_max_position)}};
  }
  json operator()(const YarnRopeScaling& s) const {
    return {{"rope_type", "yarn"},
            {"factor", s.factor},
            {"beta_fast", s.beta_fast},
            {"beta_slow", s.beta_slow},
            {"truncate", s.truncate},
            {"attention_factor", s.attention_factor},
            {"original_max_position_embeddings", static_cast<int64_t>(s.original_max_position)}};
  }
  json operator()(const LongRopeScaling& s) const {
    return {{"rope_type", "longrope"},
            {"factor", 1.0},  // read for the attention factor alone, which is written out
            {"short_factor", s.short_factor},
            {"long_factor", s.long_factor},
            {"attention_factor", s.attention_factor},
            {"original_max_position_embeddings", static_cast<int64_t>(s.original_max_position)}};
  }
};

}  // namespace

RopeSpec read_rope(const JsonFields& fields, int64_t d_head, double rotary_factor) {
  HEADLENS_CHECK(ConfigError, rotary_factor > 0 && rotary_factor <= 1,
                 "[{}] share of a head's dimensions that are rotated, expected above 0 and at most "
                 "1, got {}",
                 fields.where(), rotary_factor);
  RopeSpec rope;
  rope.rotary_dim = static_cast<int64_t>(static_cast<double>(d_head) * rotary_factor);
  rope.theta = fields.optional<double>("rope_theta", 10000);
  const char* key = fields.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (fields.has(key)) {
    const JsonFields parameters = fields.object(key);
    rope.theta = parameters.optional<double>("rope_theta", rope.theta);
    rope.scaling = read_scaling(fields, parameters, rope.rotary_dim);
    check_partial(parameters, rope, rotary_factor);
  }
  check_partial(fields, rope, rotary_factor);
  HEADLENS_CHECK(ConfigError, std::isfinite(rope.theta) && rope.theta > 0,
                 "[{}] rope_theta, expected a finite number > 0, got {}", fields.where(),
                 rope.theta);
  HEADLENS_CHECK(ConfigError, rope.rotary_dim > 0 && rope.rotary_dim % 2 == 0,
                 "[{}] rotary dimensions of a head, expected an even number, got {}",
                 fields.where(), rope.rotary_dim);
  return rope;
}

void write_rope(const RopeSpec& rope, json& out) {
  out["rope_theta"] = rope.theta;
  const json scaling = std::visit(WriteScaling{out}, rope.scaling);
  if (!scaling.is_null()) out["rope_scaling"] = scaling;
}

}  // namespace headlens
