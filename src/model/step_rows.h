// headlens/model: the attention rows that a decoding step leaves for chosen heads of a layer.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/kernels/attention.h"
#include "headlens/model/config.h"
#include "headlens/model/decoder.h"
#include "headlens/model/site.h"
#include "headlens/model/state.h"

namespace headlens {

/// The attention mixers of a layer: none or one.
std::vector<AttentionSpec> attention_specs(const LayerSpec& layer);

/// As a tap of the model's own forward it keeps q, from which `compute` makes the rows; a fused
/// layer fills them itself.
class StepRows : public Tap {
 public:
  /// HookError for heads that are not of attention. `k_cache` [batch, max_length, kv_head, d_head].
  StepRows(const LayerSpec& layer, const LayerHeads& wanted, int64_t batch, int64_t max_length,
           const Tensor& k_cache);

  bool wants(TapPoint point) const override { return point.site == q_site_; }
  Tensor visit(TapPoint point, Tensor value) override;
  void compute(const LayerState& cache, const Tensor& position, const Tensor& first) const;

  const Tensor& heads() const { return heads_; }  // int64 [n], among the attention's
  const Tensor& rows() const { return rows_; }    // [batch, n, max_length]

 private:
  AttentionRule rule_;
  Site q_site_ = Site::Q;  // the last that q passes
  Tensor heads_, rows_, q_;
};

}  // namespace headlens
