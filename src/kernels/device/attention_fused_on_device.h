// headlens/kernels: attention and figures in one pass, after the tensors were checked.
#pragma once

#include "headlens/kernels/attention_with_stats.h"

namespace headlens {

/// Whether the kernel has code for this device and takes these strides.
bool attention_fused_serves(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

/// Square, causal, served, and within the limits of kernels/attention_fused.h.
AttentionWithStats attention_fused_on_device(const at::Tensor& q, const at::Tensor& k,
                                             const at::Tensor& v, const AttentionRule& rule,
                                             const MapStatsRequest& request);

}  // namespace headlens
