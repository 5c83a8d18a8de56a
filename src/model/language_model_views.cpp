// headlens/model: other models of the same weights.
#include "core/check.h"
#include "headlens/model/block.h"
#include "headlens/model/language_model.h"

namespace headlens {

LanguageModel LanguageModel::with_layers(const std::vector<int64_t>& layers) const {
  LanguageModel model = *this;
  model.blocks_.clear();
  model.block_devices_.clear();
  model.config_.layers.clear();
  for (const int64_t layer : layers) {
    HEADLENS_CHECK(ShapeError, 0 <= layer && layer < layer_count(),
                   "[with_layers] layer, expected 0 to {}, got {}", layer_count() - 1, layer);
    model.blocks_.push_back(blocks_[static_cast<size_t>(layer)]);
    model.block_devices_.push_back(layer_device(layer));
    model.config_.layers.push_back(config_.layers[static_cast<size_t>(layer)]);
  }
  return model;
}

LanguageModel LanguageModel::with_block(int64_t layer, std::shared_ptr<const Block> block) const {
  HEADLENS_CHECK(ShapeError, 0 <= layer && layer < layer_count(),
                 "[with_block] layer, expected 0 to {}, got {}", layer_count() - 1, layer);
  LanguageModel model = *this;
  const auto place = static_cast<size_t>(layer);
  model.config_.layers[place] = block->spec();
  model.blocks_[place] = std::move(block);
  model.fingerprint_.clear();
  return model;
}

Tensor LanguageModel::head_output_weight(int64_t layer, int64_t head) const {
  HEADLENS_CHECK(ShapeError, 0 <= layer && layer < layer_count(),
                 "[head_output_weight] layer, expected 0 to {}, got {}", layer_count() - 1, layer);
  const LayerSpec& spec = config_.layers[static_cast<size_t>(layer)];
  HEADLENS_CHECK(ShapeError, 0 <= head && head < head_count(spec),
                 "[head_output_weight] head of layer {}, expected 0 to {}, got {}", layer,
                 head_count(spec) - 1, head);
  return blocks_[static_cast<size_t>(layer)]->head_output_weight(head);
}

}  // namespace headlens
