// headlens/model: one block of the residual stream.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
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
#include "headlens/model/prompt.h"
#include "headlens/model/site.h"
#include "headlens/model/state.h"

namespace headlens {

class Block;

/// A head of another block in place of one of a block's own (model/graft.h).
struct GraftedHead {
  int64_t head = 0;                    ///< the block's own, whose output is off
  std::shared_ptr<const Block> donor;  ///< where the head is from
  int64_t donor_head = 0;              ///< by the donor layer's numbers
};

/// A mixer and an MLP with their norms, put together as the layer's `Wiring` says.
class Block {
 public:
  /// Reads the tensors of layer `index` under the family's `names`; `root` is the scope of the
  /// whole checkpoint.
  Block(const ModelConfig& config, int64_t index, const TensorNames& names,
        const WeightScope& root);

  /// resid [batch, pos, d_model] -> [batch, pos, d_model]
  Tensor forward(Tensor resid, const LayerTap& tap, LayerState* state, const Prompt& prompt) const;
  /// What forward gives at `positions` [batch, n] int64 only, [batch, n, d_model], on the device of
  /// the layer: everything past the mixer, and the queries of attention, are computed there alone.
  /// No taps are called.
  Tensor forward_at(const Tensor& resid, const Tensor& positions, LayerState* state,
                    const Prompt& prompt) const;
  /// The rest of forward once the mixer's output projection has its input z (the tensor of Site::Z
  /// or MixerZ): position by position, so any positions serve. ShapeError unless z fits, and for a
  /// block of two mixers or with grafted heads, which read other positions.
  Tensor finish(const Tensor& resid, const Tensor& z) const;

  /// What one head writes, [batch, pos, d_model], reading the residual through this block's norm;
  /// before a post norm, where there is one. For a block of one mixer; the state is the mixer's.
  Tensor written_by(int64_t head, const Tensor& resid, LayerState* state,
                    const Prompt& prompt) const;

  /// This block with those heads in place of its own, and with another block's mixer and its norms
  /// in place of its own. Weights are shared. Who asks has checked that they fit (model/graft.h).
  Block with_heads(std::vector<GraftedHead> heads) const;
  /// See with_heads.
  Block with_mixer_of(const Block& donor) const;
  /// Heads of other blocks in place of its own.
  const std::vector<GraftedHead>& grafted_heads() const { return grafted_; }

  /// The columns of one head in its mixer's output projection, [d_model, width], as a view.
  Tensor head_output_weight(int64_t head) const;
  std::vector<Tensor> weights() const;  ///< all there are

  const LayerSpec& spec() const { return spec_; }  ///< what it was built from
  /// Its mixer, where that is attention; else null.
  const Attention* attention() const { return mixer_ ? std::get_if<Attention>(&*mixer_) : nullptr; }
  const Mlp* mlp() const { return mlp_ ? &*mlp_ : nullptr; }  ///< null: there is none
  const Norm& mixer_norm() const { return norm1_; }           ///< before the mixer
  const Norm& mlp_norm() const { return norm2_; }             ///< before the MLP

 private:
  using Mixer = std::variant<Attention, Mamba1, Mamba2, DiscreteMamba2>;

  void read_shared(const ModelConfig& config, const TensorNames& names, const WeightScope& root);
  Tensor sequential(Tensor resid, const LayerTap& tap, LayerState* state,
                    const Prompt& prompt) const;
  Tensor parallel(const Tensor& resid, const LayerTap& tap, LayerState* state,
                  const Prompt& prompt) const;
  Tensor parallel_mixers(Tensor resid, const LayerTap& tap, LayerState* state,
                         const Prompt& prompt) const;
  Tensor shared_block(const Tensor& resid, const LayerTap& tap, LayerState* state,
                      const Prompt& prompt) const;
  Tensor mixed_at(const Tensor& resid, const Tensor& x, const Tensor& positions, LayerState* state,
                  const Prompt& prompt) const;
  Tensor run_mixer(const Tensor& x, const LayerTap& tap, LayerState* state,
                   const Prompt& prompt) const;
  Tensor mixed(const Tensor& resid, const Tensor& x, const LayerTap& tap, LayerState* state,
               const Prompt& prompt) const;
  Tensor after_mixer(Tensor y, const LayerTap& tap) const;
  Tensor run_mlp(const Tensor& resid, const LayerTap& tap) const;
  Tensor run_normed_mlp(const Tensor& x, const LayerTap& tap) const;

  LayerSpec spec_;
  Norm norm1_, norm1_post_;
  std::optional<Mixer> mixer_;
  std::optional<Attention> attention_;  // the second mixer
  Norm norm2_, norm2_post_;
  std::optional<Mlp> mlp_;
  Linear shared_out_;  // SharedBlock: from the shared MLP to the mixer's input,
  Norm norm_mixer_;    // and the norm of that input
  std::vector<GraftedHead> grafted_;
  Tensor own_heads_;  // [d_inner]: 0 where a grafted head stands, else 1; undefined without any
};

}  // namespace headlens
