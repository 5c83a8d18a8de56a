// headlens/core: the constants of the safetensors format, for its reader and its writer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "headlens/core/dtype.h"

namespace headlens::safetensors_format {

/// A file is: header length (u64, little-endian), JSON header, data section.
inline constexpr size_t kLengthBytes = 8;
/// The format's own limit on the header.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;
/// The header is padded with spaces so that the data section starts at a multiple of this.
inline constexpr size_t kAlignment = 8;
inline constexpr std::string_view kMetadataKey = "__metadata__";

/// The dtype of a code such as "BF16", if it is one we read.
std::optional<at::ScalarType> dtype_of_code(std::string_view code);
/// The code of a dtype, if it is one we write.
std::optional<std::string_view> code_of_dtype(at::ScalarType dtype);
/// All codes, for messages.
std::string known_codes();

}  // namespace headlens::safetensors_format
