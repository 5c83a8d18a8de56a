// headlens/model: rows that begin alike, run once up to where they part.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "headlens/core/dtype.h"
#include "headlens/model/config.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"
#include "headlens/model/state.h"

namespace headlens {

/// A batch as a tree of two levels: trunks, each of which several rows begin with, and what each
/// row has after its own. Trunks are of one length and none of them is padded where it matters, so
/// rows go on from a trunk's state.
struct RowFork {
  int64_t length = 0;      ///< of the trunks
  Tensor trunk_rows;       ///< int64 [trunk]: the row that a trunk is taken from
  Tensor owner;            ///< int64 [row]: the trunk that the row goes on from
  Tensor trunk_ids;        ///< int64 [trunk, length]
  Tensor rest_ids;         ///< int64 [row, pos - length]
  Tensor trunk_positions;  ///< judged positions of each trunk, [example, n]
  Tensor rest_positions;   ///< of each row, [row, slot], after its trunk; 0 for one in the trunk
  Tensor slot_in_trunk;    ///< [row, slot]: for one in the trunk, which of the n it is
  Tensor is_in_trunk;      ///< bool [row, slot]
};

/// Whether a forward may go on from what one over a shorter text has left: not where rotary
/// positions depend on the length.
bool goes_on_from_states(const ModelConfig& config);

/// Which rows may share a trunk.
enum class Trunks {
  None,        ///< rows share nothing
  OfExamples,  ///< one an example: its prompt and what its choices have in common
  Any          ///< or one for the batch, as few-shot prompts begin, if that saves a tenth of it
};

/// How to run a batch that way; nothing where that runs as many tokens as whole rows, or where the
/// model cannot go on from a state.
std::optional<RowFork> fork_rows(const ModelConfig& config, const ObjectiveBatch& batch,
                                 Trunks trunks = Trunks::Any);

/// What leaves the trunks at their judged positions [copies * trunk, n, d] and the rest [copies *
/// row, slot, d], put together: [copies * row, slot, d].
Tensor join_fork(const RowFork& fork, const Tensor& trunk, const Tensor& rest, int64_t copies = 1);

/// What leaves the last layer at the judged positions of a batch, [row, slot, d_model]: what rows
/// have in common is run once, and they go on from its state.
Tensor run_judged(const LanguageModel& model, const ObjectiveBatch& batch);

/// The state of the trunks `owner` [row], each as often as it is named; the one given is not
/// changed.
ModelState forked_state(const ModelState& state, const Tensor& owner);
/// Of one layer.
LayerState forked_state(const LayerState& state, const Tensor& owner);

}  // namespace headlens
