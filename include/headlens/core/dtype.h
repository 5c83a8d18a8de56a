// headlens/core: names and sizes of element types.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace headlens {

using at::Tensor;

/// Reads a compute dtype: float32, bfloat16, float16 or float64, with or without a leading
/// "torch." as in config.json. Throws ConfigError for anything else.
at::ScalarType parse_dtype(std::string_view name);

/// Names a dtype as PyTorch does ("float32", "bfloat16", "int64", "bool", ...).
std::string dtype_name(at::ScalarType dtype);

/// Bytes of one element.
int64_t element_size(at::ScalarType dtype);

}  // namespace headlens
