// headlens/analysis: a batch on its way through the layers, untouched, and variants that leave it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "headlens/hooks/interventions.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"
#include "headlens/model/row_fork.h"

namespace headlens {

/// Rows of a batch that are run together: all of them, or the trunks, or what follows the trunks.
struct RowPart {
  Tensor resid;      // [row, pos, d_model], entering the layer that is next
  Tensor outputs;    // [row, pos, head..] of that layer; undefined: variants run the whole layer
  Prompt prompt;     // what the layers read besides
  Tensor positions;  // [row, n] int64 on the model's device: whose logits are judged
};

/// What variants do in the parts of a batch: one tap for each.
struct PartTaps {
  Tap* trunk = nullptr;  // or all rows
  Tap* rest = nullptr;
};

/// A batch in which rows that begin alike share a trunk, which is run once.
class BatchRun {
 public:
  BatchRun(const LanguageModel& model, const Objective& objective, int64_t index, Trunks trunks);

  int64_t index() const { return index_; }
  const ObjectiveBatch& batch() const { return batch_; }
  bool forks() const { return fork_.has_value(); }
  /// Row x pos that one variant runs.
  int64_t tokens() const;
  /// About how many bytes of trunks' states the rows of one variant hold from this layer on, as
  /// long as later layers keep no larger ones than those so far. 0 without trunks.
  int64_t state_bytes() const { return largest_state_ * (model_.layer_count() - layer_); }
  /// values [row, pos, ..] of the batch's rows, as the trunks or the rest have them. Undefined
  /// stays.
  Tensor of_trunk(const Tensor& values) const;
  Tensor of_rest(const Tensor& values) const;

  /// The layer that is next.
  int64_t layer() const { return layer_; }
  /// Runs it untouched; its input stays until `advance`, with its head outputs seen at `point`.
  void run_layer(std::optional<TapPoint> point);
  void advance();
  /// What leaves the last layer at the judged positions: [row, slot, d_model]. After the last
  /// `advance`.
  Tensor leaving() const;
  /// The same with `variants` of the next layer, from its head outputs where `inside`, under the
  /// taps: [variant * row, slot, d_model].
  Tensor run_variants(int64_t variants, bool inside, const PartTaps& taps) const;
  /// All of the model with taps, from the start: [row, slot, d_model]. Only before `run_layer`.
  Tensor run_whole(const PartTaps& taps) const { return run_variants(1, false, taps); }

 private:
  RowPart start(const Tensor& ids, int64_t first, const Tensor& positions) const;
  Tensor run_part(const RowPart& part, int64_t variants, bool inside, Tap* tap,
                  ModelState* state) const;

  const LanguageModel& model_;
  const ObjectiveBatch& batch_;
  int64_t index_;
  int64_t layer_ = 0;
  int64_t largest_state_ = 0;  // bytes that the untouched rows hold in one layer
  std::optional<RowFork> fork_;
  RowPart trunk_, rest_;
  Tensor next_trunk_, next_rest_;        // leaving the layer that has run
  ModelState trunk_state_, rest_state_;  // of the untouched rows
};

}  // namespace headlens
