// headlens/core: tensors from a weight file to a device through a few buffers on the host.
#pragma once

#include <c10/core/Event.h>

#include <array>
#include <functional>
#include <optional>
#include <string_view>

#include "headlens/core/weight_file.h"

namespace headlens {

/// Reads pieces of a file into buffers that a GPU copies from at its own pace, so that reading and
/// copying overlap and the host holds no more than the buffers. Used by one thread at a time.
class StagedCopy {
 public:
  explicit StagedCopy(int64_t buffer_bytes = int64_t{1} << 25) : buffer_bytes_(buffer_bytes) {}

  /// The tensor in its stored dtype on `device`, row-major. `progress` is told of each piece's
  /// bytes.
  Tensor load(const WeightFile& file, std::string_view name, at::Device device,
              const std::function<void(int64_t)>& progress);

 private:
  /// Memory of the host, and when the device will have taken what is in it.
  struct Buffer {
    Tensor bytes;
    std::optional<c10::Event> taken;
  };
  Buffer& free_buffer(at::Device device);

  int64_t buffer_bytes_;
  std::array<Buffer, 4> buffers_;
  size_t next_ = 0;
};

}  // namespace headlens
