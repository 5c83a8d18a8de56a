// headlens/tests: gradients of an op, to compare with those of its reference.
#pragma once

#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <vector>

#include "kernels/plain_scans.h"

namespace headlens::testing {

using Tensors = std::vector<Tensor>;

/// Copies that record gradients; undefined tensors stay undefined.
inline Tensors leaves(const Tensors& tensors) {
  Tensors out;
  for (const Tensor& t : tensors) {
    out.push_back(t.defined() ? t.detach().clone().requires_grad_() : t);
  }
  return out;
}

/// sum_k <weights_k, outputs_k> with fixed random weights: one number that all outputs enter.
inline Tensor weighted_sum(const Tensors& outputs) {
  at::manual_seed(99);
  Tensor total = at::zeros({}, outputs.front().options());
  for (const Tensor& out : outputs) {
    if (out.defined()) total = total + (out * at::randn(out.sizes(), out.options())).sum();
  }
  return total;
}

/// Gradients of weighted_sum(fn(inputs)) with respect to every defined input.
inline Tensors gradients(const std::function<Tensors(const Tensors&)>& fn, const Tensors& inputs,
                         bool create_graph = false) {
  Tensors wanted;
  for (const Tensor& t : inputs) {
    if (t.defined()) wanted.push_back(t);
  }
  return torch::autograd::grad({weighted_sum(fn(inputs))}, wanted, {}, true, create_graph, true);
}

/// Compares the gradients of two functions, and gradients of those gradients where asked.
inline void expect_same_gradients(const std::function<Tensors(const Tensors&)>& fn,
                                  const std::function<Tensors(const Tensors&)>& reference,
                                  const Tensors& inputs, double tolerance) {
  const Tensors a = gradients(fn, leaves(inputs)), b = gradients(reference, leaves(inputs));
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_TRUE(a[i].defined() == b[i].defined()) << "input " << i;
    if (!a[i].defined()) continue;
    EXPECT_LT(error_of(a[i], b[i]), tolerance) << "input " << i;
  }
}

}  // namespace headlens::testing
