// headlens/report: numbers as text that a page unpacks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace headlens {

/// Base64 of a zlib stream of the high bytes of all values, then of their low bytes: apart, each
/// kind compresses better than in pairs.
std::string packed_int16(const std::vector<int16_t>& values);

}  // namespace headlens
