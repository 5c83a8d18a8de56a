// headlens/tests: one small head map of each kind, with what its layer puts out.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "headlens/kernels/selective_scan.h"
#include "headlens/kernels/ssd_scan.h"
#include "headlens/model/head_map.h"
#include "kernels/plain_scans.h"

namespace headlens::testing {

enum class AnyMap {
  kSoftmax,
  kSoftmaxContinued,  // 9 queries after 22 cached keys
  kSsd,
  kSsdState,  // with an incoming state
  kDiscrete,
  kDiscreteState,
  kS6,
  kS6State
};

inline const AnyMap kAnyMaps[] = {
    AnyMap::kSoftmax,  AnyMap::kSoftmaxContinued, AnyMap::kSsd, AnyMap::kSsdState,
    AnyMap::kDiscrete, AnyMap::kDiscreteState,    AnyMap::kS6,  AnyMap::kS6State};

inline std::string any_map_name(const ::testing::TestParamInfo<AnyMap>& info) {
  static const char* const names[] = {"Softmax",  "SoftmaxContinued", "Ssd", "SsdState",
                                      "Discrete", "DiscreteState",    "S6",  "S6State"};
  return names[static_cast<size_t>(info.param)];
}

inline constexpr double kMapScale = 0.37;

inline bool is_softmax(AnyMap kind) {
  return kind <= AnyMap::kSoftmaxContinued;
}
inline bool is_ssd(AnyMap kind) {
  return kind >= AnyMap::kSsd && kind <= AnyMap::kDiscreteState;
}

/// What the map of this kind is made from, in the order `map_from` takes it.
inline std::vector<Tensor> map_inputs(AnyMap kind, at::ScalarType dtype) {
  at::manual_seed(11);
  std::vector<Tensor> in;
  if (is_softmax(kind)) {
    const int64_t queries = kind == AnyMap::kSoftmax ? 31 : 9;
    in = {random_tensor({2, queries, 4, 8}), random_tensor({2, 31, 2, 8}),
          random_tensor({2, 31, 2, 3})};
  } else if (is_ssd(kind)) {
    const bool discrete = kind == AnyMap::kDiscrete || kind == AnyMap::kDiscreteState;
    const bool with_state = kind == AnyMap::kSsdState || kind == AnyMap::kDiscreteState;
    const SsdCase c = make_ssd_case(31, 4, 2, !discrete, with_state);
    in = {c.log_decay, c.dt, c.B, c.C, c.x, c.state};
  } else {
    const S6Case c = make_s6_case(31, kind == AnyMap::kS6State);
    in = {c.dt, c.A, c.B, c.C, c.x, c.state};
  }
  for (Tensor& t : in) {
    if (t.defined()) t = t.to(dtype);
  }
  return in;
}

inline std::unique_ptr<HeadMap> map_from(AnyMap kind, const std::vector<Tensor>& in) {
  if (is_softmax(kind)) return make_softmax_map(in[0], in[1], in[2], {kMapScale});
  if (!is_ssd(kind)) return make_s6_map(in[0], in[1], in[2], in[3], in[4], in[5]);
  const auto layer = in[1].defined() ? LayerKind::Mamba2 : LayerKind::DiscreteMamba2;
  return make_ssd_map(layer, in[0], in[1], in[2], in[3], in[4], in[5]);
}

/// softmax(scale q k^T) v with grouped heads, written out.
inline Tensor plain_softmax_output(const Tensor& q, const Tensor& k, const Tensor& v) {
  const int64_t shared = q.size(2) / k.size(2);
  const Tensor scores = at::einsum("bqhd,bkhd->bhqk", {q, k.repeat_interleave(shared, 2)});
  const Tensor future = at::ones({q.size(1), k.size(1)}, at::kBool).triu(k.size(1) - q.size(1) + 1);
  const Tensor pattern = (scores * kMapScale).masked_fill(future, -INFINITY).softmax(-1);
  return at::einsum("bhqk,bkhd->bqhd", {pattern, v.repeat_interleave(shared, 2)});
}

/// The layer's output without a D skip, differentiable: [batch, query, head, width].
inline Tensor layer_output(AnyMap kind, const std::vector<Tensor>& in) {
  if (is_softmax(kind)) return plain_softmax_output(in[0], in[1], in[2]);
  if (is_ssd(kind)) {
    return ssd_scan_reference(in[4], in[0], in[1], in[2], in[3], in[5]).y;
  }
  return selective_scan_reference(in[4], in[0], in[1], in[2], in[3], in[5]).y.unsqueeze(-1);
}

struct MadeMap {
  std::unique_ptr<HeadMap> map;
  Tensor plain_y;  // [batch, query, head, width] float64, by plain loops from the same inputs
};

inline MadeMap make_map(AnyMap kind, at::ScalarType dtype) {
  const std::vector<Tensor> in = map_inputs(kind, dtype);
  std::vector<Tensor> wide = in;
  for (Tensor& t : wide) {
    if (t.defined()) t = t.to(at::kDouble);
  }
  Tensor y;
  if (is_softmax(kind)) {
    y = plain_softmax_output(wide[0], wide[1], wide[2]);
  } else if (is_ssd(kind)) {
    y = plain_ssd({wide[4], wide[0], wide[1], wide[2], wide[3], wide[5]}).y;
  } else {
    y = plain_s6({wide[4], wide[0], wide[1], wide[2], wide[3], wide[5]}).y.unsqueeze(-1);
  }
  return {map_from(kind, in), y};
}

}  // namespace headlens::testing
