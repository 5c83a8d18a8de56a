// headlens/analysis: what a task loses when heads are switched off, many variants a batch.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "headlens/analysis/estimates.h"
#include "headlens/analysis/sweep_target.h"
#include "headlens/analysis/types.h"
#include "headlens/hooks/interventions.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// What of a head is cut; q is the last prompt token. FromQuery and BeforeQuery share all positions
/// out between them. SegmentsFromQuery takes entries out of the head's map, whatever the mode and
/// the placement, and leaves the rest of its output as it is.
enum class CutPositions {
  All,               ///< its output everywhere: the definition of accuracy_drop
  FromQuery,         ///< its output at q and the answer's tokens after it
  BeforeQuery,       ///< its output at every position before q
  InSegments,        ///< its output at the tokens of segments: where a Gather head works
  SegmentsFromQuery  ///< what it reads from segments at q and after: an Aggregate head's work
};

/// How a sweep cuts heads, and how much it holds at once.
struct SweepOptions {
  /// Zero; Mean: the head's mean over all prompt positions of the task; Resample: its outputs in
  /// the objective's next example, run untouched, lined up at the last prompt tokens; Scale: its
  /// own output times `factor`.
  AblationMode mode = AblationMode::Zero;
  Placement placement = Placement::PostNorm;   ///< where heads are cut
  CutPositions positions = CutPositions::All;  ///< at which positions
  int64_t max_batch_tokens = 16384;            ///< variants x rows x positions held in one forward
  /// What takes the place of the outputs of cut heads in a batch of the objective, instead of what
  /// `mode` says: [head, width] or [row, pos, head, width] by site; an empty map: zeros.
  std::function<HeadOutputs(int64_t batch)> replacements = {};
  /// Called with (done, total) work units; may throw to stop.
  std::function<void(int64_t, int64_t)> progress = {};
  double factor = 0;  ///< of the mode Scale
  /// Caps on memory, weights included; 0: none. The first batches of a sweep then hold one variant,
  /// two, four .., and what they took says how many fit. `max_batch_tokens` holds besides.
  int64_t max_gpu_bytes = 0;   // on each GPU
  int64_t max_host_bytes = 0;  ///< of tensors, for models on the CPU
};

/// What a sweep took of the memory of the model's device (of the fullest of several), in bytes.
/// Zeros where no cap was given.
struct SweepMemory {
  int64_t weights = 0;      ///< of the model
  int64_t prefix = 0;       ///< residuals, states and replacements that all variants share
  int64_t per_variant = 0;  ///< activations of one variant of the first batch of full size
  int64_t variants = 0;     ///< that such a batch holds
  int64_t predicted = 0;    ///< the peak of that batch in all
  int64_t peak = 0;         ///< that was seen in the whole sweep
  int64_t out_of_memory =
      0;  ///< batches that did not fit and were halved; counted without caps too
};

/// Every target's verdicts beside the untouched model's.
struct SweepResult {
  SweepOutcome base;                   ///< nothing cut
  std::vector<SweepOutcome> variants;  ///< one per requested target, in order
  SweepMemory memory = {};             ///< what it took
};

/// Ablates each target alone. Targets of one layer share the forward up to its head outputs (with
/// the placement PreNorm, and where it has two mixers, up to the layer): the variants restart there
/// together. Equals
/// `ablate_one_by_one` up to the rounding of matrix products of other sizes. HookError for a head
/// that does not exist, UsageError for a mode or limit it cannot work with, TaskError for
/// resampling with fewer than two examples.
SweepResult ablation_sweep(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& targets, const SweepOptions& options = {});

/// The same for any interventions. Targets that start in one layer and cut no maps share batches;
/// those that cut maps run one after another, from their first layer on. HookError besides for an
/// MLP that does not exist, a target that names nothing, and map entries that no example has.
SweepResult sweep_targets(const LanguageModel& model, const Objective& objective,
                          const std::vector<SweepTarget>& targets,
                          const SweepOptions& options = {});
/// The plain way: one whole forward of whole rows a target and batch.
SweepResult targets_one_by_one(const LanguageModel& model, const Objective& objective,
                               const std::vector<SweepTarget>& targets,
                               const SweepOptions& options = {});

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
