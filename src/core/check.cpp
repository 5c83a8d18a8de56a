// headlens/core: texts for error messages.
#include "core/check.h"

namespace headlens {

std::string shape_string(c10::IntArrayRef shape) {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ", "));
}

}  // namespace headlens
