// headlens/core: reading safetensors files.
#include "headlens/core/safetensors.h"

#include <ATen/ATen.h>
#include <c10/util/strides.h>

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

using Entries = std::map<std::string, TensorInfo>;  // byte ranges within the data section

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
  TensorInfo info{read_dtype(entry_field(entry, "dtype", where), where), {}, {}, 0, 0};
  info.shape = read_shape(entry_field(entry, "shape", where), where);
  std::tie(info.begin, info.end) =
      read_offsets(entry_field(entry, "data_offsets", where), data_bytes, where);
  HEADLENS_CHECK(CheckpointError, entry.size() == 3,
                 "{}, expected dtype, shape and data_offsets only, got {} keys", where,
                 entry.size());
  const uint64_t bytes = byte_count(info, where);
  const auto strides = c10::contiguous_strides(info.shape);
  info.strides.assign(strides.begin(), strides.end());
  HEADLENS_CHECK(CheckpointError, info.end - info.begin == bytes,
                 "{}, data_offsets, expected {} bytes for {} {}, got {}", where, bytes,
                 dtype_name(info.dtype), shape_string(info.shape), info.end - info.begin);
  return info;
}

/// The tensors, in order of offset, must tile the data section.
void check_tiling(const Entries& tensors, uint64_t data_bytes, const std::filesystem::path& path) {
  std::vector<std::pair<std::string_view, const TensorInfo*>> order;
  for (const auto& [name, info] : tensors) order.emplace_back(name, &info);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  uint64_t next = 0;
  for (const auto& [name, info] : order) {
    HEADLENS_CHECK(CheckpointError, info->begin == next,
                   "[{}] tensor '{}', {}, expected offset {}, got {}", path.string(), name,
                   info->begin < next ? "overlaps the tensor before it" : "leaves a hole before it",
                   next, info->begin);
    next = info->end;
  }
  HEADLENS_CHECK(CheckpointError, next == data_bytes,
                 "[{}] data bytes, expected {} as the header says, got {}", path.string(), next,
                 data_bytes);
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile out(path);
  const uint64_t header_bytes = read_header_length(out.file(), path);
  const uint64_t data_start = kLengthBytes + header_bytes;
  const uint64_t data_bytes = out.file().size() - data_start;
  out.set_header({reinterpret_cast<const char*>(out.file().data()) + kLengthBytes, header_bytes});
  const json header = parse_header(out.header(), path);
  Entries entries;
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadataKey) {
      out.metadata_ = read_metadata(entry, path);
    } else {
      entries.emplace(name, read_entry(entry, data_bytes, out.about(name)));
    }
  }
  check_tiling(entries, data_bytes, path);
  for (auto& [name, info] : entries) {
    info.begin += data_start;
    info.end += data_start;
    out.add(name, std::move(info));
  }
  return out;
}

}  // namespace headlens
