// headlens/kernels: figures of attention rows on a device, after the tensors were checked.
#pragma once

#include "headlens/kernels/attention_stats.h"

namespace headlens {

/// Shapes, dtypes and limits as the kernel takes them (kernels/attention_stats.h).
MapStats attention_stats_on_device(const at::Tensor& q, const at::Tensor& k,
                                   const AttentionRule& rule, const MapStatsRequest& request);

}  // namespace headlens
