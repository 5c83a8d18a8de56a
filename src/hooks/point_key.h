// headlens/hooks: one number for a tap point, to index by.
#pragma once

#include <cstdint>

#include "headlens/model/site.h"

namespace headlens {

inline int64_t point_key(TapPoint point) {
  return (point.layer + 1) * static_cast<int64_t>(Site::kCount) + static_cast<int64_t>(point.site);
}

}  // namespace headlens
