// headlens/model: which device each layer of a model lives on.
#include "headlens/model/layer_spread.h"

#include <algorithm>
#include <numeric>

#include "core/check.h"

namespace headlens {
namespace {

/// The device of each layer if no device is to hold more than `most` bytes, each taking what fits
/// before the next; nothing if that cannot be.
std::vector<size_t> fill(size_t devices, const std::vector<int64_t>& layer_bytes,
                         int64_t embed_bytes, int64_t head_bytes, int64_t most) {
  std::vector<size_t> out;
  size_t device = 0;
  int64_t held = embed_bytes;
  for (const int64_t bytes : layer_bytes) {
    while (held + bytes > most && device + 1 < devices) {
      ++device;
      held = 0;
    }
    held += bytes;
    if (held > most) return {};
    out.push_back(device);
  }
  if (device + 1 < devices) held = 0;
  return held + head_bytes <= most ? out : std::vector<size_t>();
}

}  // namespace

LayerSpread spread_layers(const std::vector<at::Device>& devices,
                          const std::vector<int64_t>& layer_bytes, int64_t embed_bytes,
                          int64_t head_bytes) {
  HEADLENS_CHECK(UsageError, !devices.empty(), "[load] devices, expected at least one, got none");
  LayerSpread spread{devices.front(), {}, devices.back()};
  if (layer_bytes.empty()) return spread;
  const auto place = [&](int64_t most) {
    return fill(devices.size(), layer_bytes, embed_bytes, head_bytes, most);
  };
  int64_t least = std::max(embed_bytes, head_bytes), enough = embed_bytes + head_bytes;
  enough = std::accumulate(layer_bytes.begin(), layer_bytes.end(), enough);
  while (least < enough) {
    const int64_t middle = least + (enough - least) / 2;
    (place(middle).empty() ? least : enough) = place(middle).empty() ? middle + 1 : middle;
  }
  for (const size_t device : place(enough)) spread.layers.push_back(devices[device]);
  return spread;
}

}  // namespace headlens
