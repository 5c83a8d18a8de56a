// headlens/kernels: a selective scan with what stands around it, made of single operations.
#pragma once

#include "headlens/core/dtype.h"
#include "headlens/kernels/selective_scan.h"

namespace headlens {

/// The tensors of a scan and what stands around it, as the caller gave them.
struct ScanArguments {
  Tensor x, dt, A, B, C, state;
  ScanSurroundings around;
};

/// selective_scan, or its readable reference, between LibTorch's operations; autograd sees each.
FusedScanResult selective_scan_composed(const ScanArguments& in, bool readable);

}  // namespace headlens
