// headlens/kernels: the selective scan on a device, with gradients, after the tensors were checked.
#pragma once

#include "kernels/selective_scan_composed.h"

namespace headlens {

/// Everything on one CUDA device, nothing in float64.
bool scan_fits_device(const ScanArguments& in);

/// With gradients where they are recorded.
FusedScanResult selective_scan_on_device(const ScanArguments& in);

/// One position, `state` (float32, contiguous) in place, without gradients.
FusedScanResult selective_scan_step_on_device(const ScanArguments& in, Tensor& state);

}  // namespace headlens
