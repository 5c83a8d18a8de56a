// headlens/model: first weights of a model that is to be trained.
#include "headlens/model/fresh_weights.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "core/check.h"
#include "headlens/core/weight_scope.h"
#include "headlens/model/families.h"
#include "headlens/model/language_model.h"

namespace headlens {
namespace {

/// FNV-1a: the same on every machine, so that a tensor's draw depends on seed and name alone.
uint64_t hash_name(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char letter : name) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
  }
  return hash;
}

/// Draws tensors by the rule that their names ask for.
class Initializer {
 public:
  Initializer(const ModelConfig& config, uint64_t seed, const InitOptions& options)
      : names_(tensor_names(config.family)),
        seed_(seed),
        options_(options),
        out_std_(options.std / std::sqrt(2.0 * static_cast<double>(config.layers.size()))) {}

  Tensor operator()(std::string_view name, at::IntArrayRef shape) const {
    const at::Generator generator =
        at::make_generator<at::CPUGeneratorImpl>(seed_ ^ hash_name(name));
    const auto ends = [&](std::string_view tail) { return name.ends_with(tail); };
    if (name == names_.embed + ".weight") return normal(shape, options_.embed_std, generator);
    if (name == names_.lm_head + ".weight") return normal(shape, options_.head_std, generator);
    if (ends("A_log")) return decay(shape, generator);
    if (ends("dt_bias") || ends("dt_proj.bias")) return step_bias(shape, generator);
    if (ends(".D")) return at::ones(shape);
    if (ends("bias")) return at::zeros(shape);
    if (shape.size() == 1) return at::ones(shape);  // norms
    if (ends("conv1d.weight") || ends("dt_proj.weight")) return small_uniform(shape, generator);
    const bool to_residual =
        ends("o_proj.weight") || ends("out_proj.weight") || ends("down_proj.weight");
    return normal(shape, to_residual ? out_std_ : options_.std, generator);
  }

 private:
  static Tensor normal(at::IntArrayRef shape, double std, const at::Generator& generator) {
    return at::empty(shape).normal_(0, std, generator);
  }

  /// +- 1/sqrt(inputs of one output), the last dimension of these weights.
  static Tensor small_uniform(at::IntArrayRef shape, const at::Generator& generator) {
    const double bound = 1 / std::sqrt(static_cast<double>(shape.back()));
    return at::empty(shape).uniform_(-bound, bound, generator);
  }

  /// Mamba-1 [channel, d_state]: log(1 .. d_state) in each channel; Mamba-2 [head]: log of U(1,
  /// 16).
  static Tensor decay(at::IntArrayRef shape, const at::Generator& generator) {
    if (shape.size() == 1) return at::empty(shape).uniform_(1, 16, generator).log();
    return at::arange(1, shape[1] + 1, at::kFloat).log().expand(shape).contiguous();
  }

  /// softplus^-1(dt) = dt + log(1 - exp(-dt)) for log-uniform dt.
  Tensor step_bias(at::IntArrayRef shape, const at::Generator& generator) const {
    const double low = std::log(options_.dt_min);
    const double high = std::log(options_.dt_max);
    const Tensor dt = at::empty(shape).uniform_(low, high, generator).exp();
    return dt + (-at::expm1(-dt)).log();
  }

  const TensorNames& names_;
  uint64_t seed_;
  InitOptions options_;
  double out_std_;
};

}  // namespace

std::map<std::string, Tensor> fresh_weights(const ModelConfig& config, uint64_t seed,
                                            const InitOptions& options) {
  HEADLENS_CHECK(ConfigError, 0 < options.dt_min && options.dt_min < options.dt_max,
                 "[fresh_weights] dt_min and dt_max, expected 0 < dt_min < dt_max, got {} and {}",
                 options.dt_min, options.dt_max);
  const Initializer initialize(config, seed, options);
  std::map<std::string, Tensor> weights;
  // The model asks for its tensors by name and shape; that list is the only one there is.
  const auto generate = [&](const std::string& name, at::IntArrayRef shape) {
    return weights[name] = initialize(name, shape);
  };
  LanguageModel::build(config, WeightScope::from_generator(generate, at::kFloat, at::kCPU));
  return weights;
}

}  // namespace headlens
