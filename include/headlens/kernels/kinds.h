// headlens/kernels: the choices that specs of layers and kernels share.
#pragma once

namespace headlens {

/// What happens to a Mamba-2 layer's scan output before out_proj.
enum class GatedNorm {
  GateFirst,  ///< norm(y * silu(gate)), as in Mamba-2
  NormFirst,  ///< norm(y) * silu(gate)
  GateOnly,   ///< y * silu(gate)
};

/// What an MLP does between its projections. Gelu is the exact one, Relu2 the square of Relu.
enum class Activation {
  Silu,      ///< x sigmoid(x)
  Gelu,      ///< x Phi(x), Phi the normal distribution function
  GeluTanh,  ///< its approximation by tanh (arXiv 1606.08415)
  Relu,      ///< max(x, 0)
  Relu2      ///< max(x, 0)^2
};

}  // namespace headlens
