// headlens/kernels: norms on a device, after the tensors were checked.
#pragma once

#include "headlens/core/dtype.h"
#include "headlens/kernels/norm.h"

namespace headlens {

constexpr int64_t kMaxNormWidth = 40960;  // a row waits in shared memory as float32

/// Shapes and dtypes as the kernel takes them (kernels/norm.h); `addend` may be undefined.
AddedNorm rms_norm_on_device(const Tensor& x, const Tensor& addend, const Tensor& weight,
                             double eps, bool plus_one);
Tensor gated_norm_on_device(const Tensor& y, const Tensor& gate, const Tensor& weight, double eps,
                            int64_t groups, GatedNorm kind);

}  // namespace headlens
