// headlens/core: the two macros that throw, with compile-checked messages.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "headlens/core/error.h"

namespace c10 {
template <typename T>
class ArrayRef;  // c10/util/ArrayRef.h; report uses these macros and never sees torch
}  // namespace c10

namespace headlens {

/// Formats a shape as "[2, 3]"; "[]" for a scalar.
std::string shape_string(c10::ArrayRef<int64_t> shape);

}  // namespace headlens

/// Throws `Type` with a formatted message. The message is built only here, when it is needed.
#define HEADLENS_FAIL(Type, ...) throw ::headlens::Type(::fmt::format(__VA_ARGS__))

/// Throws `Type` unless `cond` holds: HEADLENS_CHECK(ConfigError, n > 0, "[f] n, got {}", n).
#define HEADLENS_CHECK(Type, cond, ...) \
  do {                                  \
    if (!(cond)) [[unlikely]] {         \
      HEADLENS_FAIL(Type, __VA_ARGS__); \
    }                                   \
  } while (false)
