// headlens/cli: the most memory that a stretch of work has held.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

namespace headlens::cli {

/// From here on peak_memory() counts anew. CUDA devices must have been allocated on.
void reset_peak_memory(const std::vector<at::Device>& devices);

/// Bytes: what LibTorch had allocated on the fullest of the CUDA devices, else what of this process
/// was resident (since its start, where the system lets nobody count anew).
int64_t peak_memory(const std::vector<at::Device>& devices);

}  // namespace headlens::cli
