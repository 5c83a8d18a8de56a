// headlens/core: writing safetensors files.
#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <set>
#include <tuple>
#include <utility>

#include "core/check.h"
#include "core/json_fields.h"
#include "core/safetensors_format.h"
#include "core/whole_file.h"
#include "headlens/core/safetensors.h"

namespace headlens {
namespace {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// The tensors in the order they are written: wide elements first, so that with a data section that
/// starts at a multiple of 8 every tensor is aligned to its element; then by name.
NamedTensors in_file_order(NamedTensors tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::tuple(b.second.element_size(), std::string_view(a.first)) <
           std::tuple(a.second.element_size(), std::string_view(b.first));
  });
  return tensors;
}

void check_writable(const NamedTensors& tensors, const std::filesystem::path& path) {
  std::set<std::string_view> seen;
  for (const auto& [name, tensor] : tensors) {
    HEADLENS_CHECK(CheckpointError, name != safetensors_format::kMetadataKey && !name.empty(),
                   "[{}] tensor name, expected neither '' nor '{}', got '{}'", path.string(),
                   safetensors_format::kMetadataKey, name);
    HEADLENS_CHECK(CheckpointError, seen.insert(name).second,
                   "[{}] tensor '{}', expected once, got twice", path.string(), name);
    HEADLENS_CHECK(CheckpointError,
                   tensor.defined() && tensor.layout() == at::kStrided &&
                       safetensors_format::code_of_dtype(tensor.scalar_type()).has_value(),
                   "[{}] tensor '{}', expected a dense tensor of {}, got {}", path.string(), name,
                   safetensors_format::known_codes(),
                   tensor.defined() ? dtype_name(tensor.scalar_type()) : "an undefined tensor");
  }
}

/// Header length and padded JSON header.
std::string make_header(const NamedTensors& tensors,
                        const std::map<std::string, std::string>& metadata,
                        const std::filesystem::path& path) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(safetensors_format::kMetadataKey)] = metadata;
  int64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const int64_t end = offset + static_cast<int64_t>(tensor.nbytes());
    header[name] = {{"dtype", *safetensors_format::code_of_dtype(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    HEADLENS_FAIL(CheckpointError, "[{}] names and metadata, expected UTF-8, got other bytes",
                  path.string());
  }
  const size_t align = safetensors_format::kAlignment;
  text.resize((text.size() + align - 1) / align * align, ' ');
  std::string length(safetensors_format::kLengthBytes, '\0');
  for (size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  }
  return length + text;
}

}  // namespace

void save_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                      const std::map<std::string, std::string>& metadata) {
  static_assert(std::endian::native == std::endian::little, "the format is little-endian");
  check_writable(tensors, path);
  const NamedTensors ordered = in_file_order(tensors);
  WholeFile file(path);
  const std::string header = make_header(ordered, metadata, path);
  file.write(header.data(), header.size());
  for (const auto& [name, tensor] : ordered) {
    const Tensor flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous();
    file.write(flat.const_data_ptr(), flat.nbytes());
  }
  file.commit();
}

}  // namespace headlens
