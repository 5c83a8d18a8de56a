// headlens/report: numbers as text that a page unpacks.
#include "report/packed.h"

#include <zlib.h>

#include <string_view>

#include "core/check.h"

namespace headlens {
namespace {

std::string base64(const std::vector<uint8_t>& bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](size_t k) {
      return i + k < bytes.size() ? static_cast<uint32_t>(bytes[i + k]) : 0u;
    };
    const uint32_t word = byte(0) << 16 | byte(1) << 8 | byte(2);
    for (size_t k = 0; k < 4; ++k) {
      text += i + k > bytes.size() ? '=' : kDigits[word >> (18 - 6 * k) & 63];
    }
  }
  return text;
}

std::vector<uint8_t> deflated(const std::vector<uint8_t>& bytes) {
  uLongf size = compressBound(static_cast<uLong>(bytes.size()));
  std::vector<uint8_t> out(size);
  const int status = compress2(out.data(), &size, bytes.data(), static_cast<uLong>(bytes.size()),
                               Z_DEFAULT_COMPRESSION);
  HEADLENS_CHECK(Error, status == Z_OK, "[report] zlib, expected to compress {} bytes, got {}",
                 bytes.size(), status);
  out.resize(size);
  return out;
}

}  // namespace

std::string packed_int16(const std::vector<int16_t>& values) {
  std::vector<uint8_t> bytes(2 * values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const auto units = static_cast<uint16_t>(values[i]);
    bytes[i] = static_cast<uint8_t>(units >> 8);
    bytes[values.size() + i] = static_cast<uint8_t>(units & 255);
  }
  return base64(deflated(bytes));
}

}  // namespace headlens
