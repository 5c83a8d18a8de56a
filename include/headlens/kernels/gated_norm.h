// headlens/kernels: how a gate and a norm meet.
#pragma once

namespace headlens {

/// What happens to a Mamba-2 layer's scan output before out_proj.
enum class GatedNorm {
  GateFirst,  // norm(y * silu(gate)), as in Mamba-2
  NormFirst,  // norm(y) * silu(gate)
  GateOnly,   // y * silu(gate)
};

}  // namespace headlens
