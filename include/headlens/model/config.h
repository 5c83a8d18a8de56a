// headlens/model: what a model is made of, as plain structs read from config.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headlens/model/layer_spec.h"

namespace headlens {

/// The norms of the residual stream.
enum class NormKind {
  Rms,         ///< weight * x / rms(x)
  RmsPlusOne,  ///< (1 + weight) * x / rms(x) (Gemma-2)
  Layer,       ///< weight * (x - mean) / deviation + bias (GPT-2, GPT-NeoX)
};

/// What kind of map a layer has; the names of scores.json.
enum class LayerKind {
  None,           ///< no mixer
  Attention,      ///< softmax attention
  Mamba1,         ///< S6 (arXiv 2312.00752)
  Mamba2,         ///< SSD (arXiv 2405.21060)
  DiscreteMamba2  ///< Llamba's (arXiv 2502.14458)
};

/// The kind of the layer's own mixer.
LayerKind layer_kind(const LayerSpec& layer);
/// "attention", "mamba1", "mamba2", "discrete_mamba2", or "none" for a block without a mixer.
std::string layer_kind_name(LayerKind kind);
/// The kinds of all its mixers, in the order of `head_banks`: "mamba2", "mamba2+attention", "none".
std::string layer_kind_name(const LayerSpec& layer);

/// The heads of one mixer within their layer's numbering.
struct HeadBank {
  LayerKind kind = LayerKind::None;  ///< of the mixer
  int64_t first = 0;                 ///< the number of its first head
  int64_t count = 0;                 ///< query heads, SSM heads, or channels (Mamba-1)
  int64_t width = 0;     ///< of one head's own output, the slice of o_proj's / out_proj's input
  double out_scale = 1;  ///< multiplies what the output projection writes
};

/// The mixers of a layer: none, one, or two (its own heads first, then those of the attention
/// beside it).
std::vector<HeadBank> head_banks(const LayerSpec& layer);
/// The bank that head number `head` of the layer belongs to; an empty one if the layer has no such
/// head.
HeadBank bank_of(const LayerSpec& layer, int64_t head);
/// Heads a user can name in this layer, of all its mixers; 0 without a mixer.
int64_t head_count(const LayerSpec& layer);
/// Width of one head's own output in the layer's own mixer: d_head, or 1 for Mamba-1.
int64_t head_width(const LayerSpec& layer);

/// A whole model as a list of layers: a hybrid is a list of unlike layers.
struct ModelConfig {
  std::string family;        ///< "llama", "mamba", "falcon_mamba", "mamba2", "llamba", "bamba", ...
  std::string architecture;  ///< config.json's architectures[0]
  int64_t vocab_size = 0;    ///< logits a position
  int64_t d_model = 0;       ///< width of the residual
  NormKind norm = NormKind::Rms;  ///< of the residual stream
  double norm_eps = 1e-5;         ///< of all of them
  bool tied_embeddings = false;   ///< lm_head is the embedding
  int64_t max_position = 0;       ///< learned positions there are (GPT-2); 0: none are learned
  double embed_scale = 1;         ///< of the embedding (Gemma-2, Falcon-H1)
  double logit_scale = 1;         ///< of the logits (Falcon-H1)
  double logit_softcap =
      0;  ///< logits become softcap tanh(logits / softcap) (Gemma-2); 0: as they are
  bool residual_in_fp32 = false;  ///< keep the residual stream in at least float32 (Mamba families)
  std::string dtype = "float32";  ///< the checkpoint's own
  std::vector<int64_t> eos_token_ids;  ///< may be empty
  std::vector<LayerSpec> layers;       ///< first to last
  bool operator==(const ModelConfig&) const = default;
};

}  // namespace headlens
