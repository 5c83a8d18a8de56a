// headlens/model: one block of the residual stream.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <variant>
#include <vector>

#include "headlens/core/weight_scope.h"
#include "headlens/model/attention.h"
#include "headlens/model/config.h"
#include "headlens/model/discrete_mamba2.h"
#include "headlens/model/families.h"
#include "headlens/model/mamba1.h"
#include "headlens/model/mamba2.h"
#include "headlens/model/mlp.h"
#include "headlens/model/norm.h"
#include "headlens/model/site.h"
#include "headlens/model/state.h"

namespace headlens {

/// resid += mixer(norm1(resid)); resid += mlp(norm2(resid)). Either half may be absent.
class Block {
 public:
  /// Reads the layer's tensors below `weights` under the family's `names`.
  Block(const ModelConfig& config, const LayerSpec& spec, const TensorNames& names,
        const WeightScope& weights);

  /// resid [batch, pos, d_model] -> [batch, pos, d_model]
  Tensor forward(Tensor resid, const LayerTap& tap, LayerState* state) const;
  /// The rest of forward once the mixer's output projection has its input z (the tensor of Site::Z
  /// or MixerZ): position by position, so any positions serve. ShapeError unless z fits.
  Tensor finish(Tensor resid, const Tensor& z) const;

  /// The mixer's output projection, [d_model, heads * width]; undefined without a mixer.
  Tensor output_weight() const;
  std::vector<Tensor> weights() const;

 private:
  Tensor add_mlp(Tensor resid, const LayerTap& tap) const;

  using Mixer = std::variant<Attention, Mamba1, Mamba2, DiscreteMamba2>;

  RmsNorm norm1_;
  std::optional<Mixer> mixer_;
  RmsNorm norm2_;
  std::optional<Mlp> mlp_;
};

}  // namespace headlens
