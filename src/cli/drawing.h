// headlens/cli: a model as people draw it: the residual stream from top to bottom.
#pragma once

#include <string>
#include <vector>

#include "headlens/model/config.h"

namespace headlens::cli {

/// Layers that are drawn alike, and their indices.
struct AlikeLayers {
  std::string drawing;
  std::vector<int64_t> layers;
};
/// In the order of their first layers. `unicode`: with lines and arrows, else in ASCII.
std::vector<AlikeLayers> alike_layers(const ModelConfig& config, bool unicode);

/// A letter a layer: A attention, M a state-space mixer, B both in one layer, F an MLP alone.
std::string layer_strip(const ModelConfig& config);

/// "0-8, 10, 12-31" of sorted indices.
std::string ranges_text(const std::vector<int64_t>& sorted);

/// Embedding, the layers (alike ones once, with how many there are), final norm and unembedding.
std::string model_drawing(const ModelConfig& config, bool unicode);

}  // namespace headlens::cli
