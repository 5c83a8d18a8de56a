// headlens/core: texts for error messages.
#include "core/check.h"

#include <c10/util/ArrayRef.h>

namespace headlens {

std::string shape_string(c10::ArrayRef<int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

}  // namespace headlens
