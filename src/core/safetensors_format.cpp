// headlens/core: the dtype codes of the safetensors format.
#include "core/safetensors_format.h"

#include <array>
#include <utility>

#include "core/check.h"

namespace headlens::safetensors_format {
namespace {

constexpr std::array<std::pair<at::ScalarType, std::string_view>, 10> kCodes = {{
    {at::kDouble, "F64"},
    {at::kFloat, "F32"},
    {at::kHalf, "F16"},
    {at::kBFloat16, "BF16"},
    {at::kLong, "I64"},
    {at::kInt, "I32"},
    {at::kShort, "I16"},
    {at::kChar, "I8"},
    {at::kByte, "U8"},
    {at::kBool, "BOOL"},
}};

}  // namespace

std::optional<at::ScalarType> dtype_of_code(std::string_view code) {
  for (const auto& [dtype, known] : kCodes) {
    if (known == code) return dtype;
  }
  return std::nullopt;
}

std::optional<std::string_view> code_of_dtype(at::ScalarType dtype) {
  for (const auto& [known, code] : kCodes) {
    if (known == dtype) return code;
  }
  return std::nullopt;
}

std::string known_codes() {
  std::string out;
  for (const auto& [dtype, code] : kCodes)
    out += fmt::format("{}{}", out.empty() ? "" : ", ", code);
  return out;
}

}  // namespace headlens::safetensors_format
