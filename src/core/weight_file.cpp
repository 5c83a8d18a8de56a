// headlens/core: a file of named tensors, whatever its format.
#include "headlens/core/weight_file.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/check.h"
#include "core/mapped_file.h"
#include "headlens/core/npz.h"
#include "headlens/core/safetensors.h"
#include "headlens/core/torch_file.h"

namespace headlens {
namespace {

/// A bool of another byte than 0 or 1 is undefined behaviour for whoever reads it.
void check_bools(const std::byte* begin, const std::byte* end, const std::string& where) {
  const auto* bad = std::find_if(begin, end, [](std::byte b) { return b > std::byte{1}; });
  HEADLENS_CHECK(CheckpointError, bad == end, "{}, expected bytes 0 or 1 for bool, got {}", where,
                 std::to_integer<int>(*bad));
}

}  // namespace

int64_t TensorInfo::bytes() const {
  int64_t count = element_size(dtype);
  for (const int64_t size : shape) count *= size;
  return count;
}

bool TensorInfo::is_contiguous() const {
  int64_t step = 1;
  for (size_t d = shape.size(); d > 0; --d) {
    if (shape[d - 1] != 1 && strides[d - 1] != step) return false;
    step *= shape[d - 1];
  }
  return true;
}

WeightFile WeightFile::open(const std::filesystem::path& path) {
  if (path.extension() == ".safetensors") return SafetensorsFile::open(path);
  if (path.extension() == ".npz") return NpzFile::open(path);
  return TorchFile::open(path);
}

WeightFile::WeightFile(const std::filesystem::path& path)
    : path_(path), file_(std::make_shared<const MappedFile>(path)) {}

void WeightFile::add(std::string name, TensorInfo info) {
  tensors_.insert_or_assign(std::move(name), std::move(info));
}

std::string WeightFile::about(std::string_view name) const {
  return fmt::format("[{}] tensor '{}'", path_.string(), name);
}

std::vector<std::string> WeightFile::names() const {
  std::vector<std::string> out;
  out.reserve(tensors_.size());
  for (const auto& [name, info] : tensors_) out.push_back(name);
  return out;
}

bool WeightFile::has(std::string_view name) const {
  return tensors_.contains(name);
}

const TensorInfo& WeightFile::info(std::string_view name) const {
  const auto it = tensors_.find(name);
  HEADLENS_CHECK(CheckpointError, it != tensors_.end(), "{}, expected in the file, got none",
                 about(name));
  return it->second;
}

Tensor WeightFile::tensor(std::string_view name) const {
  const TensorInfo& info = this->info(name);
  const auto options = at::TensorOptions().dtype(info.dtype);
  if (info.begin == info.end) return at::empty(info.shape, options);
  std::byte* const data = file_->data() + info.begin;
  if (info.dtype == at::kBool) check_bools(data, file_->data() + info.end, about(name));
  const auto align = static_cast<uintptr_t>(element_size(info.dtype));
  if (reinterpret_cast<uintptr_t>(data) % align != 0) {
    Tensor copy = at::empty({static_cast<int64_t>((info.end - info.begin) / align)}, options);
    std::memcpy(copy.mutable_data_ptr(), data, info.end - info.begin);
    return copy.as_strided(info.shape, info.strides);
  }
  return at::from_blob(
      data, info.shape, info.strides, [keep_alive = file_](void*) mutable { keep_alive.reset(); },
      options);
}

void WeightFile::read(std::string_view name, uint64_t offset, void* out, size_t size) const {
  const TensorInfo& info = this->info(name);
  HEADLENS_CHECK(CheckpointError,
                 offset <= info.end - info.begin && size <= info.end - info.begin - offset,
                 "{}, expected to read within its {} bytes, got {} from {}", about(name),
                 info.end - info.begin, size, offset);
  // One thread does not reach what memory and bus can do. Errors must not leave a worker.
  constexpr int64_t kPiece = 1 << 21;
  std::atomic<bool> good = true;
  at::parallel_for(0, static_cast<int64_t>(size), kPiece, [&](int64_t first, int64_t last) {
    auto* const to = static_cast<std::byte*>(out) + first;
    const auto from = info.begin + offset + static_cast<uint64_t>(first);
    if (!file_->read(from, to, static_cast<size_t>(last - first))) good = false;
  });
  HEADLENS_CHECK(CheckpointError, good, "{}, expected to be read, got less than the file had",
                 about(name));
}

void WeightFile::release(std::string_view name) const {
  const TensorInfo& info = this->info(name);
  file_->release(info.begin, info.end);
}

int64_t WeightFile::file_size() const {
  return static_cast<int64_t>(file_->size());
}

}  // namespace headlens
