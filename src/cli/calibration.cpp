// headlens/cli: how long this machine takes for a token in each layer of a model, by a short trial.
#include "cli/calibration.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>

#include "cli/drawing.h"
#include "cli/peak_memory.h"
#include "headlens/core/device.h"
#include "headlens/core/weight_scope.h"

namespace headlens::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kFewWords = 2048;     // of the stand-in's vocabulary
constexpr double kTrialWork = 4e10;     // multiplications of one timed run on a CPU, about
constexpr double kTrialSeconds = 0.25;  // of all runs of one layer

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

at::Device device_of(const CommonFlags& flags) {
  if (flags.device.empty()) return default_device();
  return parse_device(flags.device.substr(0, flags.device.find(',')));
}

/// Layers that cost the same are drawn the same.
std::vector<AlikeLayers> make_ups(const ModelConfig& config) {
  return alike_layers(config, /*unicode=*/false);
}

/// The config with one layer of each make-up and few words: small to make, the same to run.
ModelConfig shortened(const ModelConfig& config) {
  ModelConfig out = config;
  out.layers.clear();
  for (const AlikeLayers& group : make_ups(config)) {
    LayerSpec layer = config.layers[static_cast<size_t>(group.layers.front())];
    layer.shared_from = std::ssize(out.layers);
    out.layers.push_back(std::move(layer));
  }
  out.vocab_size = std::min(out.vocab_size, kFewWords);
  return out;
}

LanguageModel stand_in_model(const ModelConfig& config, const CommonFlags& flags) {
  const at::Device device = device_of(flags);
  const at::ScalarType native = device.is_cpu() ? at::kFloat : parse_dtype(config.dtype);
  const at::ScalarType dtype = chosen_dtype(flags.dtype).value_or(native);
  const auto constant = [=](const std::string&, at::IntArrayRef shape) {
    return at::full(shape, 0.01, at::TensorOptions(dtype).device(device));
  };
  return LanguageModel::build(shortened(config),
                              WeightScope::from_generator(constant, dtype, device));
}

/// Best of the runs that fit into kTrialSeconds, two at least: the first one warms up.
double best_seconds(const at::Device& device, const std::function<void()>& run) {
  const auto timed = [&] {
    const auto start = Clock::now();
    run();
    if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
    return since(start);
  };
  timed();
  double best = std::numeric_limits<double>::max();
  const auto start = Clock::now();
  do {
    best = std::min(best, timed());
  } while (since(start) < kTrialSeconds);
  return best;
}

/// Rows of `length` tokens that are worth about kTrialWork, and at most a batch.
int64_t rows_of(const LanguageModel& model, int64_t length, int64_t batch_tokens) {
  const double per_token =
      static_cast<double>(model.parameter_count()) / static_cast<double>(model.layer_count());
  const double tokens = model.device().is_cpu() ? kTrialWork / per_token : 1e9;
  const double most = std::min(tokens, static_cast<double>(batch_tokens));
  return std::max<int64_t>(1, static_cast<int64_t>(most / static_cast<double>(length)));
}

}  // namespace

double Calibration::seconds(double tokens, int64_t from, int64_t to) const {
  double sum = 0;
  for (int64_t i = from; i < to; ++i) sum += layer_seconds[static_cast<size_t>(i)];
  return tokens * sum;
}

LoadedModel stand_in(const CommonFlags& flags) {
  return {stand_in_model(identify_model(flags).config, flags), model_directory(flags.model)};
}

Calibration calibrate(const ModelConfig& config, const CommonFlags& flags, int64_t length,
                      int64_t batch_tokens) {
  const auto start = Clock::now();
  c10::NoGradGuard no_grad;
  const LanguageModel model = stand_in_model(config, flags);
  Calibration found;
  found.weight_size = element_size(model.dtype());
  found.length = std::max<int64_t>(length, 1);
  found.rows = rows_of(model, found.length, batch_tokens);
  const auto tokens = static_cast<double>(found.rows * found.length);
  const Tensor ids = at::randint(model.config().vocab_size, {found.rows, found.length}, at::kLong);
  const Tensor resid = model.embed(ids);
  const Prompt prompt = model.prompt_of(resid);
  found.layer_seconds.resize(config.layers.size());
  const std::vector<AlikeLayers> groups = make_ups(config);
  reset_peak_memory({model.device()});
  const int64_t before = peak_memory({model.device()});
  for (int64_t g = 0; g < std::ssize(groups); ++g) {
    const double best = best_seconds(
        model.device(), [&] { model.run_layers(resid, g, g + 1, nullptr, nullptr, prompt); });
    for (const int64_t layer : groups[static_cast<size_t>(g)].layers) {
      found.layer_seconds[static_cast<size_t>(layer)] = best / tokens;
    }
  }
  found.token_bytes = static_cast<double>(peak_memory({model.device()}) - before) / tokens;
  const Tensor last = resid.select(1, found.length - 1);
  const double wider =
      static_cast<double>(config.vocab_size) / static_cast<double>(model.config().vocab_size);
  found.logit_seconds = best_seconds(model.device(), [&] { model.unembed(last); }) * wider /
                        static_cast<double>(found.rows);
  found.trial_seconds = since(start);
  return found;
}

}  // namespace headlens::cli
