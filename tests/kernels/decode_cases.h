// headlens/tests: decoding's projections written out in float64, an independent source.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "headlens/kernels/decode.h"
#include "kernels/plain_scans.h"

namespace headlens::testing {

/// What a test converts a case with: to a device and a dtype, and back.
inline Tensor wide(const Tensor& x) {
  return x.defined() && x.is_floating_point() ? x.to(at::kCPU, at::kDouble) : x;
}

struct LinearCase {
  std::string name;
  std::vector<int64_t> rows{};
  bool bias = false, norm = false, plus_one = false, gated = false, residual = false;
  std::optional<Activation> activation{};
};

inline const LinearCase kLinearCases[] = {
    {.name = "plain", .rows = {96}},
    {.name = "residual", .rows = {77}, .bias = true, .residual = true},
    {.name = "three", .rows = {128, 32, 33}, .bias = true, .norm = true},
    {.name = "gated",
     .rows = {176, 176},
     .norm = true,
     .plus_one = true,
     .gated = true,
     .activation = Activation::Silu},
    {.name = "gelu", .rows = {31}, .bias = true, .activation = Activation::Gelu},
    {.name = "gelu_tanh", .rows = {4097}, .activation = Activation::GeluTanh},
    {.name = "relu2", .rows = {1}, .norm = true, .activation = Activation::Relu2},
};

inline DecodeLinear make_linear(const LinearCase& c, int64_t in) {
  DecodeLinear linear;
  for (const int64_t rows : c.rows) {
    linear.weights.push_back(random_tensor({rows, in}) / std::sqrt(static_cast<double>(in)));
    linear.biases.push_back(c.bias ? random_tensor({rows}) : Tensor());
  }
  if (c.norm) linear.norm_weight = random_tensor({in});
  linear.eps = 1e-5;
  linear.plus_one = c.plus_one;
  linear.gated = c.gated;
  linear.activation = c.activation;
  return linear;
}

template <typename Convert>
DecodeLinear converted(const DecodeLinear& linear, const Convert& convert) {
  DecodeLinear there = linear;
  for (Tensor& weight : there.weights) weight = convert(weight);
  for (Tensor& bias : there.biases) bias = convert(bias);
  there.norm_weight = convert(there.norm_weight);
  return there;
}

inline Tensor plain_activation(const Tensor& x, std::optional<Activation> activation) {
  if (!activation) return x;
  switch (*activation) {
    case Activation::Silu:
      return x / (1 + (-x).exp());
    case Activation::Gelu:
      return x * 0.5 * (1 + (x / std::sqrt(2.0)).erf());
    case Activation::GeluTanh:
      return x * 0.5 * (1 + (0.7978845608028654 * (x + 0.044715 * x * x * x)).tanh());
    case Activation::Relu:
      return x.clamp_min(0);
    case Activation::Relu2:
      return x.clamp_min(0) * x.clamp_min(0);
  }
  return x;
}

/// All in float64 on the CPU.
inline Tensor plain_linear(Tensor x, const DecodeLinear& linear, const Tensor& residual) {
  if (linear.norm_weight.defined()) {
    const Tensor rms = ((x * x).mean(-1, /*keepdim=*/true) + linear.eps).sqrt();
    x = x / rms * (linear.plus_one ? 1 + linear.norm_weight : linear.norm_weight);
  }
  std::vector<Tensor> parts;
  for (size_t i = 0; i < linear.weights.size(); ++i) {
    Tensor y = at::matmul(x, linear.weights[i].t());
    parts.push_back(linear.biases[i].defined() ? y + linear.biases[i] : y);
  }
  const Tensor first = linear.gated ? parts[0] : at::cat(parts, -1);
  Tensor y = plain_activation(first, linear.activation);
  if (linear.gated) y = y * parts[1];
  return residual.defined() ? y + residual : y;
}

}  // namespace headlens::testing
