// headlens/kernels: softmax attention and the figures of its rows at once.
#include "headlens/kernels/attention_with_stats.h"

#include "headlens/kernels/attention_stats.h"
#include "kernels/autograd_support.h"
#include "kernels/device/attention_fused_on_device.h"
#include "kernels/device_kernels.h"

namespace headlens {
namespace {

constexpr int64_t kLeastPositions = 256;  // below, all of it is launches
constexpr int64_t kMostSegments = 16, kWidest = 128;

/// Shapes that are not even those of attention go to the two passes too, which name what is wrong.
bool is_square(const Tensor& q, const Tensor& k, const Tensor& v) {
  return q.dim() == 4 && k.dim() == 4 && k.sizes() == v.sizes() && q.size(0) == k.size(0) &&
         q.size(1) == k.size(1) && q.size(3) == k.size(3) && k.size(2) > 0 &&
         q.size(2) % k.size(2) == 0;
}

bool takes_inputs(const Tensor& q, const Tensor& k, const Tensor& v) {
  const auto like_q = [&](const Tensor& x) {
    return x.scalar_type() == q.scalar_type() && x.device() == q.device();
  };
  return has_device_kernel(q) && at::elementSize(q.scalar_type()) == 2 && like_q(k) && like_q(v) &&
         is_square(q, k, v) && q.numel() > 0 && q.size(1) >= kLeastPositions &&
         q.size(3) <= kWidest && !records_grad({q, k, v});
}

bool takes_rule(const AttentionRule& rule, int64_t keys) {
  return (rule.window == 0 || rule.window >= keys) && rule.softcap == 0 && rule.scale > 0 &&
         !rule.first.defined();
}

bool takes_request(const MapStatsRequest& request, const Tensor& k) {
  const Tensor& ids = request.segments;
  const bool fit = !ids.defined() || (ids.dim() == 2 && ids.size(1) == k.size(1) &&
                                      (ids.size(0) == 1 || ids.size(0) == k.size(0)) &&
                                      ids.scalar_type() == at::kLong && request.num_segments > 0);
  return fit && request.num_segments <= kMostSegments && !request.rows.defined() &&
         !request.heads.defined() && request.offsets.empty() && !request.key_sets.defined() &&
         request.top_k == 0;
}

}  // namespace

bool attention_is_one_pass(const Tensor& q, const Tensor& k, const Tensor& v,
                           const AttentionRule& rule, const MapStatsRequest& request) {
  if constexpr (kDeviceKernels) {
    return takes_inputs(q, k, v) && takes_rule(rule, k.size(1)) && takes_request(request, k) &&
           attention_fused_serves(q, k, v);
  }
  return false;
}

AttentionWithStats attention_with_stats(const Tensor& q, const Tensor& k, const Tensor& v,
                                        const AttentionRule& rule, const MapStatsRequest& request) {
  if constexpr (kDeviceKernels) {
    if (attention_is_one_pass(q, k, v, rule, request)) {
      return attention_fused_on_device(q, k, v, rule, request);
    }
  }
  return {attention(q, k, v, rule), attention_stats(q, k, rule, request)};
}

}  // namespace headlens
