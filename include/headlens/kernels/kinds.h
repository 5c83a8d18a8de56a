// headlens/kernels: the choices that specs of layers and kernels share.
#pragma once

namespace headlens {

/// What happens to a Mamba-2 layer's scan output before out_proj.
enum class GatedNorm {
  GateFirst,  // norm(y * silu(gate)), as in Mamba-2
  NormFirst,  // norm(y) * silu(gate)
  GateOnly,   // y * silu(gate)
};

/// What an MLP does between its projections. Gelu is the exact one, Relu2 the square of Relu.
enum class Activation { Silu, Gelu, GeluTanh, Relu, Relu2 };

}  // namespace headlens
