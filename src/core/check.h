// headlens/core: the two macros that throw, with compile-checked messages.
#pragma once

#include <fmt/format.h>

#include <c10/util/ArrayRef.h>

#include <string>

#include "headlens/core/error.h"

namespace headlens {

/// Formats a shape as "[2, 3]"; "[]" for a scalar.
std::string shape_string(c10::IntArrayRef shape);

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
