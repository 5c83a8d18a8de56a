// headlens/kernels: the Mamba-2 scan on a device, after the tensors were checked.
#pragma once

#include "headlens/kernels/ssd_scan.h"
#include "kernels/ssd_checks.h"

namespace headlens {

/// Inputs as they were given. Whether device code takes them: x, B and C of one dtype that it has,
/// nothing in float64, sizes as in kernels/ssd_scan.h.
bool ssd_scan_fits_device(const SsdInputs& in);
bool ssd_backward_fits_device(const SsdInputs& in);
bool ssd_step_fits_device(const SsdInputs& in);

SsdResult ssd_scan_on_device(const SsdInputs& in);
SsdResult ssd_step_on_device(const SsdInputs& in);
/// Gradients in the dtypes of the inputs; `grad_y` like y, `grad_state` float32 or undefined.
SsdInputs ssd_backward_on_device(const SsdInputs& in, const Tensor& grad_y,
                                 const Tensor& grad_state);

}  // namespace headlens
