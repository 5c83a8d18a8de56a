// headlens/core: names and sizes of element types.
#include "headlens/core/dtype.h"

#include <array>
#include <utility>

#include "core/check.h"

namespace headlens {
namespace {

constexpr std::array<std::pair<at::ScalarType, std::string_view>, 10> kDtypeNames = {{
    {at::kFloat, "float32"},
    {at::kBFloat16, "bfloat16"},
    {at::kHalf, "float16"},
    {at::kDouble, "float64"},
    {at::kLong, "int64"},
    {at::kInt, "int32"},
    {at::kShort, "int16"},
    {at::kChar, "int8"},
    {at::kByte, "uint8"},
    {at::kBool, "bool"},
}};

}  // namespace

at::ScalarType parse_dtype(std::string_view name) {
  constexpr std::string_view kTorchPrefix = "torch.";
  std::string_view bare = name;
  if (bare.starts_with(kTorchPrefix)) bare.remove_prefix(kTorchPrefix.size());
  for (const auto& [dtype, text] : kDtypeNames) {
    if (text == bare && at::isFloatingType(dtype)) return dtype;
  }
  HEADLENS_FAIL(ConfigError,
                "[parse_dtype] dtype, expected float32, bfloat16, float16 or float64, got '{}'",
                name);
}

std::string dtype_name(at::ScalarType dtype) {
  for (const auto& [known, text] : kDtypeNames) {
    if (known == dtype) return std::string(text);
  }
  return c10::toString(dtype);
}

int64_t element_size(at::ScalarType dtype) {
  return static_cast<int64_t>(c10::elementSize(dtype));
}

}  // namespace headlens
