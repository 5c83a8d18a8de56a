// headlens/model: layers and heads of one model in the place of another's.
#pragma once

#include <cstdint>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/model/language_model.h"

namespace headlens {

/// A layer of the donor in place of one of the recipient.
struct LayerGraft {
  int64_t donor = 0;      ///< its layer, from 0
  int64_t recipient = 0;  ///< the layer it takes the place of
  /// Its mixer with the norms around it only; the recipient's MLP stays.
  bool mixer_only = false;
  bool operator==(const LayerGraft&) const = default;
};

/// One head: a query head, an SSM head, a channel (Mamba-1).
struct HeadPlace {
  int64_t layer = 0;  ///< from 0
  int64_t head = 0;   ///< by the layer's numbers
  bool operator==(const HeadPlace&) const = default;
};

/// A head of the donor in place of one of the recipient, whose own output is off: what the donor's
/// writes, z_h W_O,h, is added where the recipient's mixer writes. It reads the recipient's
/// residual through the norm and the projections of its own layer.
struct HeadGraft {
  HeadPlace donor;      ///< the head that is put in
  HeadPlace recipient;  ///< the head it takes the place of
  bool operator==(const HeadGraft&) const = default;
};

/// The recipient with those layers of the donor, a view: all weights are the two models' own
/// tensors. What a layer brings along stays its own: norms, rotary positions, the kind of its
/// state. Everything else (embedding, final norm, head) is the recipient's. HookError for a layer
/// that does not exist. UsageError for models of other widths, vocabularies or dtypes, layers on
/// different devices, a place named twice, shared blocks (Zamba2), and mixers alone of layers that
/// are put together otherwise.
LanguageModel graft_layers(const LanguageModel& recipient, const LanguageModel& donor,
                           const std::vector<LayerGraft>& grafts);

/// The recipient with those heads of the donor, a view. Sites and numbers of the recipient's layers
/// stay what they are; a grafted head has no sites, and the head whose place it has puts out 0. The
/// donor's layer is run for it in whole, and states hold what that needs (LayerState::grafts).
/// Errors as above; UsageError besides for layers of two mixers, and where one norms what its mixer
/// writes and the other does not.
LanguageModel graft_heads(const LanguageModel& recipient, const LanguageModel& donor,
                          const std::vector<HeadGraft>& grafts);

/// A softmax attention head in place of one SSM head: queries, keys and values are the rows of qkv
/// [3 width, d_model] (width: the head's own) times what the layer's norm gives, with rotary
/// positions where the width is even, and it writes through the head's own columns of out_proj. The
/// model holds `qkv` itself, so that it can be trained in place. UsageError unless the head is an
/// SSM layer's and qkv fits.
LanguageModel graft_attention_head(const LanguageModel& model, const HeadPlace& place,
                                   const Tensor& qkv);

}  // namespace headlens
