// headlens/analysis: activation patching: one run goes on with what another had at a site.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/types.h"
#include "headlens/core/kept_steps.h"
#include "headlens/hooks/interventions.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// What is taken over from the other run, at the positions of a group.
enum class PatchSite {
  Resid,     ///< the residual entering a layer
  MixerOut,  ///< what a mixer, attention or state-space, gives the residual
  MlpOut,    ///< what an MLP gives the residual
  Z,         ///< a head's output, where heads are cut (Placement)
  Pattern,   ///< an attention head's rows of these queries
  Map,       ///< a state-space head's rows of these queries; what they multiply stays the run's own
  State  ///< a state-space head's state as of the group's last position: what later positions read
};

/// Which run is patched with the other's activations.
enum class PatchDirection {
  Denoising,  ///< the corrupted run gets the clean one's activations
  Noising     ///< the clean run gets the corrupted one's
};

/// Positions that are patched together.
struct PositionGroup {
  std::string name;                                  ///< the word, and which of several
  std::vector<std::vector<int64_t>> positions = {};  ///< [example] of the prompt, rising
  bool everywhere = false;  ///< in place of them: every position, the answer's tokens too
};

/// Groups by words: `all` (everywhere); `last` (the last prompt token); `token` (each token, from
/// the last back to the shortest prompt's first); `segment` (each segment by its index); `right`,
/// `wrong` (the segment of the clean, of the corrupted run's answer); `right_end`, `wrong_end`,
/// `ends` (last tokens of those, of all segments); `changed` (tokens that differ between the runs);
/// `between` (behind the last segment, up to the last token and without it). UsageError for another
/// word, TaskError naming an example without such positions.
std::vector<PositionGroup> position_groups(const Objective& clean, const Objective& corrupted,
                                           const std::vector<std::string>& words);
/// The words, in that order.
const std::vector<std::string>& position_words();

/// What `patch_activations` patches, and how.
struct PatchOptions {
  PatchSite site = PatchSite::Resid;                     ///< what is patched
  PatchDirection direction = PatchDirection::Denoising;  ///< which run is
  Placement placement = Placement::PostNorm;             ///< of Z
  std::vector<int64_t> layers = {};                      ///< empty: all
  std::vector<HeadId> heads = {};                        ///< of sites with heads; empty: all
  int64_t mamba1_groups = 16;        ///< channel groups of a Mamba-1 layer, where all
  bool attribution = false;          ///< estimate every effect by its gradient as well
  int64_t max_batch_tokens = 16384;  ///< variants x rows x positions held in one forward
  int64_t max_gpu_bytes = 0;         ///< as in SweepOptions
  int64_t max_host_bytes = 0;        ///< as in SweepOptions
  /// Called with (done, total) work units; may throw to stop.
  std::function<void(int64_t, int64_t)> progress = {};
  KeptSteps steps = {};  ///< a batch is a step
};

/// A run as it came out; means over examples with 95 % intervals.
struct RunFigures {
  Estimate accuracy;    ///< Wilson's interval
  Estimate logprob;     ///< of the clean run's answer, nats
  Estimate difference;  ///< its log-probability less that of the corrupted run's answer: with
                        ///< answers of one token their logit difference
};

/// What one patch does. Changes are the patched run's figures less those of the run that is
/// patched, over the same examples.
struct PatchCell {
  int64_t layer = 0;                ///< from 0
  std::string part = {};            ///< "residual", "mlp", or the mixer's kind
  std::optional<HeadId> head = {};  ///< of sites with heads
  size_t positions = 0;             ///< into Patching::positions
  RunFigures patched = {};          ///< of the patched run
  Estimate accuracy_change = {};    ///< paired
  Estimate logprob_change = {};     ///< paired, nats
  Estimate difference_change = {};  ///< paired, nats
  /// (patched - corrupted) / (clean - corrupted) of the mean difference, by the delta method: 1 is
  /// the clean run, 0 the corrupted one. Absent where the interval of clean - corrupted reaches 0.
  std::optional<Estimate> recovered = {};
  /// `difference_change` as attribution patching estimates it.
  std::optional<Estimate> estimated = {};
};

/// How the estimates differ from the exact changes of `difference`, over all cells.
struct AttributionError {
  std::optional<double> rank_correlation;  ///< Spearman's; absent for fewer than 3 cells
  double mean_absolute = 0;                ///< mean |estimate - exact|, nats
  double mean_exact = 0;                   ///< mean |exact|, nats, to compare it with
  std::vector<size_t> worst = {};          ///< cells of largest |estimate - exact|, five at most
};

/// What `patch_activations` found.
struct Patching {
  RunFigures clean;                       ///< of the clean prompts, nothing patched
  RunFigures corrupted;                   ///< of the corrupted ones
  std::vector<std::string> positions;     ///< names of the groups
  std::vector<PatchCell> cells;           ///< by layer, mixer, group and head
  std::optional<AttributionError> error;  ///< only with estimates
  SweepMemory memory;                     ///< what it took
};

/// Activation patching (arXiv 2202.05262, 2309.16042) of every layer, group of positions and, where
/// the site has them, head, each alone. Both objectives have the same rows but for their prompts'
/// tokens; the answer of each is the right one there. A cell restarts at its layer, many cells a
/// batch. A prompt's embedding that later layers read again (Zamba2's shared blocks) stays the
/// run's own.
///
/// With `attribution` each change is estimated besides by gradient . (other run - run) from one
/// forward and one backward of the run that is patched (attribution patching, arXiv 2310.10348).
///
/// ShapeError for objectives of unlike rows, TaskError for fewer than two examples, HookError for a
/// layer or head the site does not have, UsageError where no layer has it, for state patched as of
/// a prompt's last token, and for numbers out of range.
Patching patch_activations(const LanguageModel& model, const Objective& clean,
                           const Objective& corrupted, const std::vector<PositionGroup>& groups,
                           const PatchOptions& options = {});

/// "resid", "attn_out", "mlp_out", "z", "pattern", "map", "state".
const char* patch_site_name(PatchSite site);

}  // namespace headlens
