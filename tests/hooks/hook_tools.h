// headlens/tests: what the tests of hooks share: golden models, fixed ids, and errors to look into.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "headlens/core/checkpoint.h"
#include "headlens/core/error.h"
#include "headlens/core/weight_scope.h"
#include "headlens/hooks/hook_name.h"
#include "headlens/model/families.h"
#include "headlens/model/language_model.h"
#include "model/model_tools.h"

namespace headlens::testing {

inline const std::vector<std::string> kFamilies = {
    "llama", "mamba",    "falcon_mamba", "mamba2", "llamba", "bamba",     "nemotron_h", "gemma2",
    "olmo2", "gpt_neox", "gpt2",         "qwen3",  "jamba",  "falcon_h1", "zamba2"};
/// Of those, the ones with layers of two mixers.
inline const std::vector<std::string> kTwoMixers = {"falcon_h1", "zamba2"};

inline std::filesystem::path model_dir(const std::string& name) {
  return std::filesystem::path(HEADLENS_GOLDEN_DIR) / name;
}

inline ModelConfig config_of(const std::string& name) {
  return parse_model_config(Checkpoint::open(model_dir(name)).config_json());
}

/// A golden model in float64, so that comparisons of two ways to the same figure need no slack.
inline LanguageModel load_model(const std::string& name, at::ScalarType dtype = at::kDouble) {
  return LanguageModel::load(model_dir(name), {.dtype = dtype, .device = at::kCPU});
}

/// Gives each layer of a shared block (Zamba2) a copy of the block's weights for itself: the same
/// function, of weights that can be changed in one layer alone.
inline void unshare(ModelConfig& config, std::map<std::string, Tensor>& weights) {
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const int64_t layer = static_cast<int64_t>(i), from = config.layers[i].shared_from;
    if (config.layers[i].wiring != Wiring::SharedBlock || from == layer) continue;
    const auto scope = [](int64_t of) {
      return "model.layers." + std::to_string(of) + ".shared_transformer.";
    };
    for (const auto& [name, weight] : std::map(weights)) {
      if (!name.starts_with(scope(from))) continue;
      weights[scope(layer) + name.substr(scope(from).size())] = weight.clone();
    }
    config.layers[i].shared_from = layer;
  }
}

/// The same model after `change` has had its way with the weights. Shared blocks are not shared.
inline LanguageModel changed_model(
    const std::string& name, const std::function<void(std::map<std::string, Tensor>&)>& change) {
  const Checkpoint checkpoint = Checkpoint::open(model_dir(name));
  std::map<std::string, Tensor> weights;
  for (const std::string& tensor : checkpoint.names()) {
    weights[tensor] = checkpoint.tensor(tensor).clone();
  }
  ModelConfig config = parse_model_config(checkpoint.config_json());
  unshare(config, weights);
  change(weights);
  return LanguageModel::build(config,
                              WeightScope::from_map(std::move(weights), at::kDouble, at::kCPU));
}

/// int64 [batch, pos], the same on every run.
inline Tensor some_ids(int64_t batch, int64_t pos) {
  const Tensor n = at::arange(batch * pos, at::kLong).view({batch, pos});
  return (n * 29 + n * n * 5 + 11).remainder(97);
}

inline double difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return a.sizes() == b.sizes() ? (a - b).abs().max().item<double>() : INFINITY;
}

/// The message of the error of type E that `act` throws.
template <typename E>
std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "no error";
}

/// Keeps what it is shown at every site, as a plain stand-in for the recorder.
class Watcher final : public Tap {
 public:
  bool wants(TapPoint) const override { return true; }
  Tensor visit(TapPoint point, Tensor value) override {
    seen[site_name(point)] = value;
    return value;
  }
  const Tensor& operator[](const std::string& name) const { return seen.at(name); }

  std::map<std::string, Tensor> seen;
};

inline Watcher watch(const LanguageModel& model, const Tensor& ids) {
  Watcher watcher;
  model.forward(ids, {.tap = &watcher});
  return watcher;
}

}  // namespace headlens::testing
