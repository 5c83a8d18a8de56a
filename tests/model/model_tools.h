// headlens/tests: what tests of whole models share: the golden models, and taps to look and to
// edit.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "headlens/model/head_map.h"
#include "headlens/model/language_model.h"

namespace headlens::testing {

/// A golden model of each family. Their variants are in the goldens' manifest.
inline const std::vector<std::string> kGoldenModels = {
    "llama",      "llama_tied", "mistral", "qwen2",        "qwen3",    "gemma2", "phi3",
    "olmo2",      "gpt_neox",   "gpt2",    "mamba",        "mamba2",   "llamba", "bamba",
    "nemotron_h", "jamba",      "zamba2",  "falcon_mamba", "falcon_h1"};

inline std::filesystem::path golden_dir(const std::string& name) {
  return std::filesystem::path(HEADLENS_GOLDEN_DIR) / name;
}

inline LanguageModel load_golden(const std::string& name, at::ScalarType dtype = at::kDouble) {
  return LanguageModel::load(golden_dir(name), {.dtype = dtype, .device = at::kCPU});
}

/// One mixer of a model and the sites of it that tests ask for.
struct MixerSites {
  int64_t layer;
  HeadBank bank;
  TapPoint z, out, map;
};

inline std::vector<MixerSites> mixers_of(const ModelConfig& config) {
  std::vector<MixerSites> all;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    for (const HeadBank& bank : head_banks(config.layers[static_cast<size_t>(layer)])) {
      const bool softmax = bank.kind == LayerKind::Attention;
      all.push_back({layer,
                     bank,
                     {softmax ? Site::Z : Site::MixerZ, layer},
                     {softmax ? Site::AttnOut : Site::MixerOut, layer},
                     {softmax ? Site::Pattern : Site::Map, layer}});
    }
  }
  return all;
}

/// Whether a norm stands between the layer's mixer and the residual.
inline bool has_post_norm(const LayerSpec& layer) {
  return layer.wiring == Wiring::PostNorm || layer.wiring == Wiring::SandwichNorm;
}

/// ids [batch, pos], the same on every run
inline Tensor make_ids(int64_t batch, int64_t pos, int64_t vocab = 97) {
  const Tensor counted = at::arange(batch * pos, at::kLong).view({batch, pos});
  return (counted * 31 + counted * counted * 7 + 3).remainder(vocab);
}

inline double largest_difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return a.sizes() == b.sizes() ? (a - b).abs().max().item<double>() : INFINITY;
}

/// Keeps every tensor it is shown, in order.
class Recorder : public Tap {
 public:
  bool wants(TapPoint) const override { return true; }
  Tensor visit(TapPoint point, Tensor value) override {
    order.push_back(site_name(point));
    seen[order.back()] = value;
    return value;
  }

  std::vector<std::string> order;
  std::map<std::string, Tensor> seen;
};

/// Replaces what it is shown at one point.
class Editor : public Tap {
 public:
  using Edit = std::function<Tensor(Tensor)>;
  Editor(TapPoint point, Edit edit) : point_(point), edit_(std::move(edit)) {}

  bool wants(TapPoint point) const override { return point == point_; }
  Tensor visit(TapPoint, Tensor value) override { return edit_(std::move(value)); }

 private:
  TapPoint point_;
  Edit edit_;
};

/// Is shown the map handle of one point.
class MapEditor : public Tap {
 public:
  using Edit = std::function<void(HeadMap&)>;
  MapEditor(TapPoint point, Edit edit) : point_(point), edit_(std::move(edit)) {}

  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override { return point == point_; }
  void visit_map(TapPoint, HeadMap& map) override { edit_(map); }

 private:
  TapPoint point_;
  Edit edit_;
};

inline Tensor logits_with(const LanguageModel& model, const Tensor& ids, Tap& tap) {
  return model.forward(ids, {.tap = &tap});
}

}  // namespace headlens::testing
