// headlens/model: which device each layer of a model lives on.
#pragma once

#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace headlens {

/// Where the parts of a model are: the embedding, each layer, and the final norm with the lm_head.
struct LayerSpread {
  at::Device embed;                ///< of the embedding
  std::vector<at::Device> layers;  ///< [layer]
  at::Device head;                 ///< of the final norm and lm_head
};

/// Contiguous runs of layers, one a device in their order, so that the fullest device holds as few
/// bytes as can be. The first also holds `embed_bytes`, the last `head_bytes`. A device may get no
/// layer. UsageError without a device.
LayerSpread spread_layers(const std::vector<at::Device>& devices,
                          const std::vector<int64_t>& layer_bytes, int64_t embed_bytes,
                          int64_t head_bytes);

}  // namespace headlens
