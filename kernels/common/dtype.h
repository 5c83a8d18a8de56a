// headlens/kernels: the element types that device code takes.
#pragma once

namespace headlens {

enum class KernelDtype { Float32, Float16, BFloat16 };

}  // namespace headlens
