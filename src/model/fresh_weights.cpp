// headlens/model: first weights: of a model that is to be trained, or run without any checkpoint.
#include "headlens/model/fresh_weights.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <cmath>

#include "core/check.h"
#include "core/json_fields.h"
#include "headlens/core/weight_scope.h"
#include "headlens/model/families.h"
#include "headlens/model/language_model.h"

namespace headlens {
namespace {

/// FNV-1a: the same on every machine, so that a tensor's draw depends on seed and name alone.
uint64_t hash_name(std::string_view name, uint64_t hash = 0xcbf29ce484222325u) {
  for (const char letter : name) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
  }
  return hash;
}

/// Draws tensors by the rule that their names ask for.
class Initializer {
 public:
  Initializer(const ModelConfig& config, uint64_t seed, const InitOptions& options,
              at::Device device = at::kCPU)
      : device_(device),
        names_(tensor_names(config.family)),
        seed_(seed),
        options_(options),
        out_std_(options.std / std::sqrt(2.0 * static_cast<double>(config.layers.size()))) {}

  Tensor operator()(std::string_view name, at::IntArrayRef shape) const {
    const at::Generator generator = seeded(seed_ ^ hash_name(name));
    const auto ends = [&](std::string_view tail) { return name.ends_with(tail); };
    if (name == names_.embed + ".weight") return normal(shape, options_.embed_std, generator);
    if (name == names_.lm_head + ".weight") return normal(shape, options_.head_std, generator);
    if (ends("A_log")) return decay(shape, generator);
    if (ends("dt_bias") || ends("dt_proj.bias")) return step_bias(shape, generator);
    if (ends(".D")) return at::ones(shape, floats());
    if (ends("bias")) return at::zeros(shape, floats());
    if (shape.size() == 1) return at::ones(shape, floats());  // norms
    if (ends("conv1d.weight") || ends("dt_proj.weight")) return small_uniform(shape, generator);
    const bool to_residual =
        ends("o_proj.weight") || ends("out_proj.weight") || ends("down_proj.weight");
    return normal(shape, to_residual ? out_std_ : options_.std, generator);
  }

 private:
  /// A generator of its own, so that nobody else's draws change these.
  at::Generator seeded(uint64_t seed) const {
    if (device_.is_cpu()) return at::make_generator<at::CPUGeneratorImpl>(seed);
    at::Generator generator = at::globalContext().defaultGenerator(device_).clone();
    generator.set_current_seed(seed);
    return generator;
  }

  Tensor normal(at::IntArrayRef shape, double std, const at::Generator& generator) const {
    return at::empty(shape, floats()).normal_(0, std, generator);
  }

  /// +- 1/sqrt(inputs of one output), the last dimension of these weights.
  Tensor small_uniform(at::IntArrayRef shape, const at::Generator& generator) const {
    const double bound = 1 / std::sqrt(static_cast<double>(shape.back()));
    return at::empty(shape, floats()).uniform_(-bound, bound, generator);
  }

  /// Mamba-1 [channel, d_state]: log(1 .. d_state) in each channel; Mamba-2 [head]: log of U(1,
  /// 16).
  Tensor decay(at::IntArrayRef shape, const at::Generator& generator) const {
    if (shape.size() == 1) return at::empty(shape, floats()).uniform_(1, 16, generator).log();
    return at::arange(1, shape[1] + 1, floats()).log().expand(shape).contiguous();
  }

  /// softplus^-1(dt) = dt + log(1 - exp(-dt)) for log-uniform dt.
  Tensor step_bias(at::IntArrayRef shape, const at::Generator& generator) const {
    const double low = std::log(options_.dt_min);
    const double high = std::log(options_.dt_max);
    const Tensor dt = at::empty(shape, floats()).uniform_(low, high, generator).exp();
    return dt + (-at::expm1(-dt)).log();
  }

  at::TensorOptions floats() const { return at::TensorOptions(at::kFloat).device(device_); }

  at::Device device_;
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

LanguageModel random_model(const std::filesystem::path& dir, uint64_t seed,
                           const LoadOptions& options) {
  const std::string text = read_text_file(dir / "config.json");
  const ModelConfig config = parse_model_config(text, (dir / "config.json").string());
  const std::vector<at::Device> devices =
      options.devices.empty() ? std::vector{options.device} : options.devices;
  const at::Device first = devices.front();
  const at::ScalarType native = first.is_cpu() ? at::kFloat : parse_dtype(config.dtype);
  const at::ScalarType dtype = options.dtype.value_or(native);
  const Initializer initialize(config, seed, {}, first);
  const auto generate = [&](const std::string& name, at::IntArrayRef shape) {
    return initialize(name, shape).to(dtype);
  };
  const LayerSpread spread =
      spread_layers(devices, std::vector<int64_t>(config.layers.size(), 1), 1, 1);
  LanguageModel model =
      LanguageModel::build(config, WeightScope::from_generator(generate, dtype, first), spread);
  model.fingerprint_ = fmt::format(
      "random-{:016x}", hash_name(text, seed ^ hash_name(first.is_cpu() ? "cpu" : "gpu")));
  return model;
}

}  // namespace headlens
