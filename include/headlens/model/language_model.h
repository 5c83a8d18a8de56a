// headlens/model: the language model: blocks in a list, and one forward for all families.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/core/weight_scope.h"
#include "headlens/model/config.h"
#include "headlens/model/custom_family.h"
#include "headlens/model/layer_spread.h"
#include "headlens/model/norm.h"
#include "headlens/model/prompt.h"
#include "headlens/model/site.h"
#include "headlens/model/state.h"

namespace headlens {

class Block;  // model/block.h: norm, mixer and MLP of one layer with their weights

/// How `LanguageModel::load` loads.
struct LoadOptions {
  /// Default: float32 on CPU, the checkpoint's on CUDA.
  std::optional<at::ScalarType> dtype = std::nullopt;
  at::Device device = at::kCPU;             ///< where all of it goes
  std::vector<at::Device> devices = {};     ///< in place of `device`: layers are spread over them
  LoadProgress progress = {};               ///< told of bytes read
  std::optional<CustomFamily> family = {};  ///< reads config.json in place of the built-in families
};

/// How to run a forward.
struct ForwardOptions {
  Tap* tap = nullptr;           ///< visited at each site
  ModelState* state = nullptr;  ///< continued and updated when given
  /// Only these positions get logits: int64 [batch, n] (index into this forward's positions);
  /// undefined: all.
  Tensor logit_positions = {};
  /// Left padding: int64 [batch], the index of each row's first token; what stands before it is not
  /// seen by any layer, and the row's numbers are those of the row alone. Undefined: no padding.
  /// With a state it is given once, in the first forward. Sites have 0 or idle values at padding.
  Tensor first = {};
  /// Ids and positions on a GPU are known to be in range: looking at them there would wait for all
  /// that the device has yet to do. Those on the CPU are looked at there, and cost no wait.
  bool inputs_checked = false;
};

/// ShapeError for ids or logit positions (may be undefined) that a forward of this model refuses.
void check_forward_inputs(const ModelConfig& config, const Tensor& ids,
                          const Tensor& logit_positions = {});

/// A decoder-only language model. Never changed by a forward; safe to share between threads and
/// models.
class LanguageModel {
 public:
  /// Loads a Hugging Face directory (see Checkpoint; config.json in either dialect). ConfigError
  /// names a key that changes the maths and is not handled, CheckpointError a missing, unread or
  /// misshapen tensor.
  static LanguageModel load(const std::filesystem::path& dir, const LoadOptions& options = {});
  /// Builds from weights asked for by the family's own checkpoint names, on their device.
  static LanguageModel build(const ModelConfig& config, const WeightScope& weights);
  /// The same from weights under other names: a family of one's own.
  static LanguageModel build(const ModelConfig& config, const WeightScope& weights,
                             const TensorNames& names);
  /// The same with each part where `spread` says. Tied embeddings get a copy beside the last layer
  /// if they are not there already.
  static LanguageModel build(const ModelConfig& config, const WeightScope& weights,
                             const LayerSpread& spread);

  /// What the model is made of.
  const ModelConfig& config() const { return config_; }
  int64_t layer_count() const { return static_cast<int64_t>(blocks_.size()); }  ///< how many
  at::ScalarType dtype() const;  ///< of the embedding
  /// Where ids are looked up: the device of the embedding. Each layer's tensors, at taps as in a
  /// state, are on the layer's device, logits and the final norm's on the last of devices(). Inputs
  /// of the calls below may be anywhere; they are moved.
  at::Device device() const;
  /// That of one layer. ShapeError if there is no such layer.
  at::Device layer_device(int64_t layer) const;
  /// All devices that hold a part, in the order in which the residual passes them.
  std::vector<at::Device> devices() const;
  int64_t weight_bytes() const;     ///< tied and shared tensors once
  int64_t parameter_count() const;  ///< likewise
  /// Stable identity of the checkpoint the weights came from; empty for a model built in memory.
  const std::string& fingerprint() const { return fingerprint_; }

  /// ids [batch, pos] int64 -> logits [batch, pos, vocab] (or [batch, n, vocab] with
  /// logit_positions). ShapeError for ids out of range or of the wrong rank.
  Tensor forward(const Tensor& ids, const ForwardOptions& options = {}) const;

  /// The three steps of `forward`, for restarting at a layer boundary:
  /// The first residual, [batch, pos, d_model]; at least float32 where the config asks for it.
  Tensor embed(const Tensor& ids, Tap* tap = nullptr, const Prompt& prompt = {}) const;
  /// Residual entering `from_layer` -> residual leaving `to_layer - 1`; layers from_layer ..
  /// to_layer - 1 run. A state moves on by `pos` positions when its last layer has run.
  Tensor run_layers(Tensor resid, int64_t from_layer, int64_t to_layer, Tap* tap = nullptr,
                    ModelState* state = nullptr, const Prompt& prompt = {}) const;
  /// Runs from `from_layer` to the end and gives what leaves the last layer at `positions` [batch,
  /// n] int64 only: [batch, n, d_model]. The last layer then makes keys, values and scan inputs of
  /// all positions and the rest of these alone, unless the tap wants something of it.
  Tensor run_to_end(const Tensor& resid, int64_t from_layer, const Tensor& positions,
                    Tap* tap = nullptr, ModelState* state = nullptr,
                    const Prompt& prompt = {}) const;
  /// The prompt to hand to `run_layers` for a first residual: what the layers of this model read
  /// besides it. Nothing but for Zamba2, whose shared blocks read the embedding again.
  Prompt prompt_of(const Tensor& first_residual) const;
  /// The final norm and the lm_head: [.., d_model] -> [.., vocab]. ShapeError for another width.
  Tensor unembed(const Tensor& resid, Tap* tap = nullptr) const;
  /// Restarts inside a layer, at the input of its output projection: the residual [batch, pos,
  /// d_model] entering it and its head outputs z, as at Site::Z or MixerZ, [batch, pos, head..] ->
  /// the residual leaving it. Position by position, so any positions serve. ShapeError for a layer
  /// without a mixer or with two, and for a z that does not fit.
  Tensor finish_layer(int64_t layer, const Tensor& resid, const Tensor& z) const;

  /// The same weights with only these layers, in this order.
  LanguageModel with_layers(const std::vector<int64_t>& layers) const;
  /// The same weights with `block` in place of that layer's, on the same device; no fingerprint.
  LanguageModel with_block(int64_t layer, std::shared_ptr<const Block> block) const;

  /// The parts, for who runs them otherwise (model/decoder.h).
  const Block& block(int64_t layer) const { return *blocks_.at(static_cast<size_t>(layer)); }
  /// A layer to be shared with another model.
  std::shared_ptr<const Block> block_handle(int64_t layer) const {
    return blocks_.at(static_cast<size_t>(layer));
  }
  const Tensor& embedding() const { return embed_; }                    ///< [vocab, d_model]
  const Tensor& position_embedding() const { return position_embed_; }  ///< undefined but in GPT-2
  const Norm& final_norm() const { return final_norm_; }                ///< before the lm_head
  const Tensor& lm_head() const { return lm_head_; }                    ///< [vocab, d_model]

  /// One head's columns of the output projection, [d_model, width], as a view: its write to the
  /// residual is z_h W^T times its HeadBank's out_scale (before a post norm, where there is one).
  Tensor head_output_weight(int64_t layer, int64_t head) const;

 private:
  static LanguageModel assemble(const ModelConfig& config, const WeightScope& all,
                                const LayerSpread& spread, const TensorNames& names);
  friend LanguageModel random_model(const std::filesystem::path& dir, uint64_t seed,
                                    const LoadOptions& options);
  std::vector<Tensor> distinct_weights() const;

  ModelConfig config_;
  Tensor embed_;           // [vocab, d_model]
  Tensor position_embed_;  // [max_position, d_model] or undefined
  Norm final_norm_;
  Tensor lm_head_;  // [vocab, d_model]; the embedding itself when tied
  std::vector<std::shared_ptr<const Block>> blocks_;
  std::vector<at::Device> block_devices_;
  std::string fingerprint_;
};

}  // namespace headlens
