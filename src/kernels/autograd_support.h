// headlens/kernels: what ops with a backward of their own share.
#pragma once

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <initializer_list>
#include <optional>

#include "headlens/core/dtype.h"

namespace headlens {

/// Gradients of `outputs` (of the readable reference, made under grad mode) with respect to
/// `inputs`, themselves differentiable. Undefined inputs and those without grad give undefined.
inline torch::autograd::variable_list differentiable_grads(
    const torch::autograd::variable_list& outputs, const torch::autograd::variable_list& grads,
    const torch::autograd::variable_list& inputs) {
  torch::autograd::variable_list kept_outputs, kept_grads, wanted, result(inputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!grads[i].defined() || !outputs[i].requires_grad()) continue;
    kept_outputs.push_back(outputs[i]);
    kept_grads.push_back(grads[i]);
  }
  for (const Tensor& input : inputs) {
    if (input.defined() && input.requires_grad()) wanted.push_back(input);
  }
  const auto found = torch::autograd::grad(kept_outputs, wanted, kept_grads, /*retain_graph=*/true,
                                           /*create_graph=*/true, /*allow_unused=*/true);
  for (size_t i = 0, next = 0; i < inputs.size(); ++i) {
    if (inputs[i].defined() && inputs[i].requires_grad()) result[i] = found[next++];
  }
  return result;
}

/// How an input that may be undefined is handed to an autograd function.
inline std::optional<Tensor> if_defined(const Tensor& tensor) {
  return tensor.defined() ? std::optional<Tensor>(tensor) : std::nullopt;
}

/// True if any of the tensors is part of a graph that is being recorded.
inline bool records_grad(std::initializer_list<Tensor> tensors) {
  if (!at::GradMode::is_enabled()) return false;
  for (const Tensor& t : tensors) {
    if (t.defined() && t.requires_grad()) return true;
  }
  return false;
}

}  // namespace headlens
