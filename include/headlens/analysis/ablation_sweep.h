// headlens/analysis: what a task loses when heads are switched off, many variants a batch.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "headlens/analysis/estimates.h"
#include "headlens/analysis/types.h"
#include "headlens/hooks/interventions.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// What of a head is cut; q is the last prompt token. FromQuery and BeforeQuery share all positions
/// out between them. SegmentsFromQuery takes entries out of the head's map, whatever the mode and
/// the placement, and leaves the rest of its output as it is.
enum class CutPositions {
  All,               // its output everywhere: the definition of accuracy_drop
  FromQuery,         // its output at q and the answer's tokens after it
  BeforeQuery,       // its output at every position before q
  InSegments,        // its output at the tokens of segments: where a Gather head works
  SegmentsFromQuery  // what it reads from segments at q and after: an Aggregate head's work
};

struct SweepOptions {
  /// Zero; Mean: the head's mean over all prompt positions of the task; Resample: its outputs in
  /// the objective's next example, run untouched, lined up at the last prompt tokens.
  AblationMode mode = AblationMode::Zero;
  Placement placement = Placement::PostNorm;
  CutPositions positions = CutPositions::All;
  int64_t max_batch_tokens = 16384;  // variants x rows x positions held in one forward
  /// What takes the place of the outputs of cut heads in a batch of the objective, instead of what
  /// `mode` says: [head, width] or [row, pos, head, width] by site; an empty map: zeros.
  std::function<HeadOutputs(int64_t batch)> replacements = {};
  /// Called with (done, total) work units; may throw to stop.
  std::function<void(int64_t, int64_t)> progress = {};
};

struct SweepResult {
  SweepOutcome base;
  std::vector<SweepOutcome> variants;  // one per requested target, in order
};

/// Ablates each target alone. Targets of one layer share the forward up to its head outputs (with
/// the placement PreNorm, and where it has two mixers, up to the layer): the variants restart there
/// together. Equals
/// `ablate_one_by_one` up to the rounding of matrix products of other sizes. HookError for a head
/// that does not exist, UsageError for a mode or limit it cannot work with, TaskError for
/// resampling with fewer than two examples.
SweepResult ablation_sweep(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& targets, const SweepOptions& options = {});

/// The plain way, for tests and trust: one whole forward a target and batch. UsageError for
/// SegmentsFromQuery, here and below.
SweepResult ablate_one_by_one(const LanguageModel& model, const Objective& objective,
                              const std::vector<HeadId>& targets, const SweepOptions& options = {});

/// All of `targets` cut together (or, with `keep`, every other head of the layers they name); one
/// variant. HookError if that leaves nothing to cut.
SweepResult ablate_jointly(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& targets, bool keep,
                           const SweepOptions& options = {});

/// Every head of the model; Mamba-1 layers as `groups` contiguous channel groups of like size.
std::vector<HeadId> all_heads(const ModelConfig& config, int64_t groups);

}  // namespace headlens
