// headlens/hooks: head outputs in one shape for all kinds of layers.
#include "hooks/head_outputs.h"

#include <ATen/ATen.h>

#include "core/check.h"

namespace headlens {

Tensor as_heads(const Tensor& value) {
  return value.dim() == 3 ? value.unsqueeze(-1) : value;
}

Tensor fit_outputs(const Tensor& given, const Tensor& own, int64_t layer) {
  const bool channels = own.size(3) == 1 && (given.dim() == 1 || given.dim() == 3);
  Tensor outputs = channels ? given.unsqueeze(-1) : given;
  const bool per_head = outputs.dim() == 2 && outputs.sizes() == own.sizes().slice(2);
  const bool whole = outputs.dim() == 4 && outputs.sizes() == own.sizes();
  HEADLENS_CHECK(ShapeError, per_head || whole,
                 "[ablate] outputs to put in layer {}, expected {} or {}, got {}", layer,
                 shape_string(own.sizes().slice(2)), shape_string(own.sizes()),
                 shape_string(given.sizes()));
  return outputs;
}

void check_one_touched(TapPoint point, int64_t fired, int64_t touched) {
  HEADLENS_CHECK(HookError, fired > 0, "[ablate] {}, expected the forward to reach it, got no call",
                 site_name(point));
  HEADLENS_CHECK(HookError, touched > 0,
                 "[ablate] {}, expected the intervention to cover something, got nothing covered",
                 site_name(point));
}

}  // namespace headlens
