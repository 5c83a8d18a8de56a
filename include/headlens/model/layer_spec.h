// headlens/model: what a layer is made of, as plain structs.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "headlens/kernels/kinds.h"
#include "headlens/model/rope_spec.h"

namespace headlens {

/// How a checkpoint stores the projections of q, k and v.
enum class QkvLayout {
  Separate,      ///< three matrices
  Fused,         ///< one, the rows of q, of k, of v
  FusedPerHead,  ///< one, for each head its rows of q, of k, of v (GPT-NeoX)
};

/// Which RMS norm queries and keys pass before rotary positions.
enum class QkNorm {
  None,     ///< no norm
  PerHead,  ///< over d_head, one weight for all heads (Qwen3)
  Whole,    ///< over all heads at once (OLMo-2)
};

/// Softmax attention with grouped key/value heads: query head h reads kv head h / (heads /
/// kv_heads).
struct AttentionSpec {
  int64_t heads = 0;                  ///< query heads
  int64_t kv_heads = 0;               ///< key/value heads; divides `heads`
  int64_t d_head = 0;                 ///< width of a head
  double scale = 0;                   ///< multiplies q.k, usually 1/sqrt(d_head)
  bool qkv_bias = false;              ///< of q, k and v
  bool out_bias = false;              ///< of o_proj
  std::optional<RopeSpec> rope = {};  ///< absent: no rotary positions (GPT-2, Nemotron-H, Jamba)
  int64_t window = 0;             ///< a query sees this many keys, its own the last; 0: all before
  double softcap = 0;             ///< scores become softcap tanh(scores / softcap); 0: as they are
  QkNorm qk_norm = QkNorm::None;  ///< of queries and keys
  QkvLayout layout = QkvLayout::Separate;  ///< how they are stored
  double in_scale = 1;       ///< of the input, of the keys and of the output (Falcon-H1)
  double key_scale = 1;      ///< multiplies the keys
  double out_scale = 1;      ///< multiplies the output
  int64_t d_in = 0;          ///< width of the input; 0: d_model (Zamba2: 2 d_model)
  int64_t adapter_rank = 0;  ///< of low-rank additions to q, k, v (Zamba2); 0: none
  bool operator==(const AttentionSpec&) const = default;
};

/// Mamba-1 / S6 (arXiv 2312.00752). Its "head" is one channel of d_inner.
struct Mamba1Spec {
  int64_t d_inner = 0;                 ///< channels
  int64_t d_state = 0;                 ///< of each channel
  int64_t d_conv = 0;                  ///< positions the convolution sees
  int64_t dt_rank = 0;                 ///< width of the low-rank dt
  bool conv_bias = true;               ///< of the convolution
  bool proj_bias = false;              ///< of in_proj and out_proj
  std::optional<double> bcdt_rms_eps;  ///< RMS norm on B, C and low-rank dt (Falcon-Mamba, Jamba)
  bool bcdt_norm_weights = false;      ///< these norms have weights (Jamba)
  bool operator==(const Mamba1Spec&) const = default;
};

/// Mamba-2 / SSD (arXiv 2405.21060). Head h reads group h / (heads / groups) of B and C.
struct Mamba2Spec {
  int64_t heads = 0;        ///< each with a map of its own
  int64_t d_head = 0;       ///< width of a head
  int64_t d_state = 0;      ///< of each head and dimension
  int64_t groups = 1;       ///< of B and C; divides `heads`
  int64_t d_conv = 0;       ///< positions the convolution sees
  int64_t chunk = 64;       ///< length of a chunk of the scan; no effect on the result
  bool conv_bias = true;    ///< of the convolution
  bool proj_bias = false;   ///< of in_proj
  bool out_bias = false;    ///< of out_proj
  double dt_min = 0;        ///< dt is clamped to [dt_min, dt_max] after the softplus
  double dt_max = 0;        ///< 0: no upper limit
  double norm_eps = 1e-5;   ///< gated RMS norm between scan and out_proj
  int64_t norm_groups = 1;  ///< the gated norm's statistics are taken over d_inner / norm_groups
  GatedNorm gated_norm = GatedNorm::GateFirst;  ///< whether gate or norm comes first
  double in_scale = 1;                          ///< of the input and of the output (Falcon-H1)
  double out_scale = 1;                         ///< multiplies the output
  std::vector<double> part_scales = {};  ///< of in_proj's gate, x, B, C, dt (Falcon-H1); empty: 1
  int64_t d_inner() const { return heads * d_head; }  ///< width of the scan's output
  bool operator==(const Mamba2Spec&) const = default;
};

/// Llamba's DiscreteMamba2 (arXiv 2502.14458): decay exp(-softplus(A_log_t)), no dt, no gated norm.
struct DiscreteMamba2Spec {
  int64_t v_heads = 0;                                  ///< the heads
  int64_t qk_heads = 0;                                 ///< of B and C; divides `v_heads`
  int64_t d_head = 0;                                   ///< width of a head
  int64_t d_state = 0;                                  ///< of each head and dimension
  int64_t d_conv = 0;                                   ///< positions the convolution sees
  int64_t chunk = 64;                                   ///< as in Mamba2Spec
  bool conv_bias = true;                                ///< of the convolution
  bool proj_bias = false;                               ///< of in_proj and out_proj
  bool conv_silu = false;                               ///< the published models use the identity
  int64_t d_inner() const { return v_heads * d_head; }  ///< width of the scan's output
  bool operator==(const DiscreteMamba2Spec&) const = default;
};

/// Gated: down(act(gate x) * up x). Plain: down(act(up x)).
struct MlpSpec {
  int64_t d_mlp = 0;                         ///< width between up and down
  Activation activation = Activation::Silu;  ///< act above
  bool gated = true;                         ///< see above
  bool bias = false;                         ///< of all projections
  bool fused = false;        ///< gate and up are one matrix, the rows of the gate first
  double gate_scale = 1;     ///< of the gate before its activation, and of the output (Falcon-H1)
  double out_scale = 1;      ///< multiplies the output
  int64_t adapter_rank = 0;  ///< of a low-rank addition to gate and up (Zamba2); 0: none
  bool operator==(const MlpSpec&) const = default;
};

/// Whatever mixes positions in a layer.
using MixerSpec = std::variant<AttentionSpec, Mamba1Spec, Mamba2Spec, DiscreteMamba2Spec>;

/// How the parts of a block are put together; r is the residual, n a norm.
enum class Wiring {
  Sequential,      ///< r += mixer(n1(r)); r += mlp(n2(r)); either may be absent
  PostNorm,        ///< r += n1'(mixer(r)); r += n2'(mlp(r)) (OLMo-2)
  SandwichNorm,    ///< r += n1'(mixer(n1(r))); r += n2'(mlp(n2(r))) (Gemma-2)
  Parallel,        ///< r += mixer(n1(r)) + mlp(n2(r)) (GPT-NeoX)
  ParallelMixers,  ///< r += mixer(n1(r)) + attention(n1(r)); r += mlp(n2(r)) (Falcon-H1)
  SharedBlock,     ///< s = linear(mlp(n2(attention(n1([r, embedding]))))); r += mixer(n3(r + s))
                   ///< (Zamba2)
};

/// One block. Heads are numbered through the mixer's first, then through the attention's beside it.
struct LayerSpec {
  std::optional<MixerSpec> mixer;      ///< absent: the block has none
  std::optional<MlpSpec> mlp;          ///< absent: the block has none
  Wiring wiring = Wiring::Sequential;  ///< how its parts are put together
  std::optional<AttentionSpec> attention =
      {};                   ///< a second mixer: ParallelMixers and SharedBlock only
  int64_t shared_from = 0;  ///< SharedBlock: the layer that names the shared weights,
  int64_t shared_use = 0;   ///< and which use of shared blocks this is
  bool operator==(const LayerSpec&) const = default;
};

}  // namespace headlens
