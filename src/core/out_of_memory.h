// headlens/core: which of LibTorch's errors say that there is no more memory.
#pragma once

#include <exception>

namespace headlens {

/// Has an allocation on the host or a device failed, on devices that work? LibTorch says so in
/// several ways.
bool is_out_of_memory(const std::exception& error);

/// Hands back to the devices what LibTorch holds for later.
void release_memory();

}  // namespace headlens
