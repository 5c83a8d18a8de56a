// headlens/core: reading safetensors files.
#include "headlens/core/safetensors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <tuple>

#include "core/check.h"
#include "core/json_fields.h"
#include "core/mapped_file.h"
#include "core/safetensors_format.h"

namespace headlens {
namespace {

using nlohmann::json;
using safetensors_format::kLengthBytes;
using safetensors_format::kMaxHeaderBytes;
using safetensors_format::kMetadataKey;

/// Where a message is about: "[model.safetensors] tensor 'wte.weight'".
std::string about(const std::filesystem::path& path, std::string_view name) {
  return fmt::format("[{}] tensor '{}'", path.string(), name);
}

uint64_t read_header_length(const MappedFile& file, const std::filesystem::path& path) {
  HEADLENS_CHECK(CheckpointError, file.size() >= kLengthBytes,
                 "[{}] file size, expected at least {} bytes, got {}", path.string(), kLengthBytes,
                 file.size());
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {  // little-endian on any host
    length |= std::to_integer<uint64_t>(file.data()[i]) << (8 * i);
  }
  HEADLENS_CHECK(CheckpointError, length <= kMaxHeaderBytes,
                 "[{}] header length, expected at most {} bytes, got {}", path.string(),
                 kMaxHeaderBytes, length);
  HEADLENS_CHECK(CheckpointError, length <= file.size() - kLengthBytes,
                 "[{}] header length, expected at most the {} bytes that follow it, got {} (the "
                 "file is cut short)",
                 path.string(), file.size() - kLengthBytes, length);
  return length;
}

json parse_header(std::string_view text, const std::filesystem::path& path) {
  HEADLENS_CHECK(CheckpointError, text.starts_with('{'),
                 "[{}] header, expected a JSON object that starts with '{{', got other text",
                 path.string());
  try {
    return parse_json(text, path.string() + " header");
  } catch (const ConfigError& error) {
    throw CheckpointError(error.what());
  }
}

std::map<std::string, std::string> read_metadata(const json& value,
                                                 const std::filesystem::path& path) {
  HEADLENS_CHECK(CheckpointError, value.is_object(), "[{}] {}, expected an object, got {}",
                 path.string(), kMetadataKey, describe_json(value));
  std::map<std::string, std::string> out;
  for (const auto& [key, item] : value.items()) {
    HEADLENS_CHECK(CheckpointError, item.is_string(), "[{}] {} key '{}', expected a string, got {}",
                   path.string(), kMetadataKey, key, describe_json(item));
    out.emplace(key, item.get<std::string>());
  }
  return out;
}

/// A field of a tensor's header entry.
const json& entry_field(const json& entry, const char* key, const std::string& where) {
  HEADLENS_CHECK(CheckpointError, entry.is_object(), "{}, expected an object, got {}", where,
                 describe_json(entry));
  const auto it = entry.find(key);
  HEADLENS_CHECK(CheckpointError, it != entry.end(), "{}, expected a key '{}', got none", where,
                 key);
  return *it;
}

std::vector<int64_t> read_shape(const json& value, const std::string& where) {
  using Shape = JsonType<std::vector<int64_t>>;
  const bool good =
      Shape::fits(value) && std::all_of(value.begin(), value.end(),
                                        [](const json& size) { return size.get<int64_t>() >= 0; });
  HEADLENS_CHECK(CheckpointError, good, "{}, shape, expected an array of sizes from 0, got {}",
                 where, describe_json(value));
  return Shape::get(value);
}

/// shape * element size, refusing to overflow. A zero size makes it 0 whatever the others are, but
/// the others must still be a shape that LibTorch can hold.
uint64_t byte_count(const TensorInfo& info, const std::string& where) {
  int64_t bytes = element_size(info.dtype);
  bool empty = false;
  for (const int64_t size : info.shape) {
    if (size == 0) {
      empty = true;
      continue;
    }
    HEADLENS_CHECK(CheckpointError, !__builtin_mul_overflow(bytes, size, &bytes),
                   "{}, shape {}, expected fewer than 2^63 bytes, got an overflow", where,
                   shape_string(info.shape));
  }
  return empty ? 0 : static_cast<uint64_t>(bytes);
}

at::ScalarType read_dtype(const json& value, const std::string& where) {
  const auto dtype = value.is_string() ? safetensors_format::dtype_of_code(value.get<std::string>())
                                       : std::nullopt;
  HEADLENS_CHECK(CheckpointError, dtype.has_value(),
                 "{}, dtype, expected one of {}, got {} (not supported)", where,
                 safetensors_format::known_codes(), describe_json(value));
  return *dtype;
}

/// Begin and end, within the data section.
std::pair<uint64_t, uint64_t> read_offsets(const json& value, uint64_t data_bytes,
                                           const std::string& where) {
  using Offsets = JsonType<std::vector<uint64_t>>;
  HEADLENS_CHECK(CheckpointError, Offsets::fits(value) && value.size() == 2,
                 "{}, data_offsets, expected two integers from 0, got {}", where,
                 describe_json(value));
  const auto begin = value[0].get<uint64_t>();
  const auto end = value[1].get<uint64_t>();
  HEADLENS_CHECK(CheckpointError, begin <= end && end <= data_bytes,
                 "{}, data_offsets, expected a range within the file's {} data bytes, got [{}, {}]",
                 where, data_bytes, begin, end);
  return {begin, end};
}

TensorInfo read_entry(const json& entry, uint64_t data_bytes, const std::string& where) {
  TensorInfo info{read_dtype(entry_field(entry, "dtype", where), where), {}, 0, 0};
  info.shape = read_shape(entry_field(entry, "shape", where), where);
  std::tie(info.begin, info.end) =
      read_offsets(entry_field(entry, "data_offsets", where), data_bytes, where);
  HEADLENS_CHECK(CheckpointError, entry.size() == 3,
                 "{}, expected dtype, shape and data_offsets only, got {} keys", where,
                 entry.size());
  const uint64_t bytes = byte_count(info, where);
  HEADLENS_CHECK(CheckpointError, info.end - info.begin == bytes,
                 "{}, data_offsets, expected {} bytes for {} {}, got {}", where, bytes,
                 dtype_name(info.dtype), shape_string(info.shape), info.end - info.begin);
  return info;
}

/// The tensors, in order of offset, must tile the data section.
void check_tiling(const std::map<std::string, TensorInfo, std::less<>>& tensors,
                  uint64_t data_bytes, const std::filesystem::path& path) {
  std::vector<std::pair<std::string_view, const TensorInfo*>> order;
  for (const auto& [name, info] : tensors) order.emplace_back(name, &info);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  uint64_t next = 0;
  for (const auto& [name, info] : order) {
    HEADLENS_CHECK(CheckpointError, info->begin == next, "{}, {}, expected offset {}, got {}",
                   about(path, name),
                   info->begin < next ? "overlaps the tensor before it" : "leaves a hole before it",
                   next, info->begin);
    next = info->end;
  }
  HEADLENS_CHECK(CheckpointError, next == data_bytes,
                 "[{}] data bytes, expected {} as the header says, got {}", path.string(), next,
                 data_bytes);
}

/// A bool of another byte than 0 or 1 is undefined behaviour for whoever reads it.
void check_bools(const std::byte* data, const TensorInfo& info, const std::string& where) {
  for (int64_t i = 0; i < info.bytes(); ++i) {
    const int value = std::to_integer<int>(data[i]);
    HEADLENS_CHECK(CheckpointError, value <= 1, "{}, expected bytes 0 or 1 for bool, got {}", where,
                   value);
  }
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile out;
  out.path_ = path;
  out.file_ = std::make_shared<const MappedFile>(path);
  out.data_start_ = kLengthBytes + read_header_length(*out.file_, path);
  const uint64_t data_bytes = out.file_->size() - out.data_start_;
  const json header = parse_header(out.header(), path);
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadataKey) {
      out.metadata_ = read_metadata(entry, path);
    } else {
      out.tensors_.emplace(name, read_entry(entry, data_bytes, about(path, name)));
    }
  }
  check_tiling(out.tensors_, data_bytes, path);
  return out;
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> out;
  out.reserve(tensors_.size());
  for (const auto& [name, info] : tensors_) out.push_back(name);
  return out;
}

bool SafetensorsFile::has(std::string_view name) const {
  return tensors_.contains(name);
}

const TensorInfo& SafetensorsFile::info(std::string_view name) const {
  const auto it = tensors_.find(name);
  HEADLENS_CHECK(CheckpointError, it != tensors_.end(), "{}, expected in the file, got none",
                 about(path_, name));
  return it->second;
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  const TensorInfo& info = this->info(name);
  const auto options = at::TensorOptions().dtype(info.dtype);
  if (info.bytes() == 0) return at::empty(info.shape, options);
  std::byte* const data = file_->data() + data_start_ + info.begin;
  if (info.dtype == at::kBool) check_bools(data, info, about(path_, name));
  const auto align = static_cast<uintptr_t>(element_size(info.dtype));
  if (reinterpret_cast<uintptr_t>(data) % align != 0) {
    Tensor copy = at::empty(info.shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, info.end - info.begin);
    return copy;
  }
  return at::from_blob(
      data, info.shape, [keep_alive = file_](void*) mutable { keep_alive.reset(); }, options);
}

std::string_view SafetensorsFile::header() const {
  return {reinterpret_cast<const char*>(file_->data()) + kLengthBytes, data_start_ - kLengthBytes};
}

int64_t SafetensorsFile::file_size() const {
  return static_cast<int64_t>(file_->size());
}

}  // namespace headlens
