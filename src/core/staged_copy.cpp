// headlens/core: tensors from a weight file to a device through a few buffers on the host.
#include "core/staged_copy.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

namespace headlens {

/// The buffer used longest ago, once what was in it is on its device.
StagedCopy::Buffer& StagedCopy::free_buffer(at::Device device) {
  Buffer& buffer = buffers_[next_];
  next_ = (next_ + 1) % buffers_.size();
  if (buffer.taken) buffer.taken->synchronize();
  buffer.taken.reset();
  if (!buffer.bytes.defined()) {
    // Pinned: the GPU copies from it without the host's help, and much faster.
    const auto options = at::TensorOptions().dtype(at::kByte).pinned_memory(device.is_cuda());
    buffer.bytes = at::empty({buffer_bytes_}, options);
  }
  return buffer;
}

Tensor StagedCopy::load(const WeightFile& file, std::string_view name, at::Device device,
                        const std::function<void(int64_t)>& progress) {
  const TensorInfo& info = file.info(name);
  const auto size = static_cast<int64_t>(info.end - info.begin);
  const Tensor raw = at::empty({size}, at::TensorOptions(device).dtype(at::kByte));
  for (int64_t offset = 0; offset < size; offset += buffer_bytes_) {
    const int64_t count = std::min(buffer_bytes_, size - offset);
    Buffer& buffer = free_buffer(device);
    file.read(name, static_cast<uint64_t>(offset), buffer.bytes.mutable_data_ptr(),
              static_cast<size_t>(count));
    raw.narrow(0, offset, count).copy_(buffer.bytes.narrow(0, 0, count), device.is_cuda());
    if (device.is_cuda()) {
      buffer.taken.emplace(at::kCUDA);
      buffer.taken->record(c10::impl::VirtualGuardImpl(at::kCUDA).getStream(device));
    }
    progress(count);
  }
  if (size == 0) return at::empty(info.shape, raw.options().dtype(info.dtype));
  return raw.view(info.dtype).as_strided(info.shape, info.strides).contiguous();
}

}  // namespace headlens
