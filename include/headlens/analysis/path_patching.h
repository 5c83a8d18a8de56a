// headlens/analysis: what of a head's effect reaches another head, by path patching.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "headlens/analysis/estimates.h"
#include "headlens/analysis/types.h"
#include "headlens/core/kept_steps.h"
#include "headlens/hooks/interventions.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// Where the sender's output is cut.
enum class SenderPositions {
  SegmentEnds,  ///< at the last token of each segment: where a Gather head leaves its summary
  Segments,     ///< at all tokens of segments
  All           ///< every position
};

/// What of the receiver's inputs is patched.
enum class ReceiverInputs {
  All,  ///< attention: q, k and v; state-space heads: x, dt, B, C and, with PostNorm, the gate
  KeysValues,  ///< what it stores of a token: k and v; x, dt (Llamba: the decay) and B
  Queries      ///< what it asks with: q; C and, with PostNorm, the gate
};

/// How paths are patched.
struct PathOptions {
  AblationMode mode =
      AblationMode::Zero;  ///< what the sender's output becomes; zero, mean, resample
  Placement placement = Placement::PostNorm;  ///< where senders are cut and receivers patched
  SenderPositions positions = SenderPositions::SegmentEnds;  ///< where senders are cut
  ReceiverInputs inputs = ReceiverInputs::All;               ///< what of a receiver is patched
  int64_t max_batch_tokens = 16384;  ///< variants x rows x positions held in one forward
  /// Called with (done, total) work units; may throw to stop.
  std::function<void(int64_t, int64_t)> progress = {};
  KeptSteps steps = {};  ///< a batch is a step, and so are the receivers' own cuts
};

/// What the task loses when only a path is patched, over the same examples as the untouched run.
struct PathEffect {
  Estimate logprob_drop;   ///< mean, nats, with its 95 % interval
  Estimate accuracy_drop;  ///< as in estimates.h
  /// logprob_drop over the receiver's own single drop, and over the sender's drop when it is cut at
  /// these positions with everything live. Absent where that drop's interval reaches 0.
  std::optional<Estimate> of_receiver;
  std::optional<Estimate> of_sender;  ///< see above
};

/// What one sender passes to one receiver.
struct PairEffect {
  HeadId sender;    ///< cut
  HeadId receiver;  ///< patched
  PathEffect
      direct;        ///< sender -> residual -> receiver: heads and MLPs between are the clean run's
  PathEffect total;  ///< sender -> anything between, live -> receiver
};

/// sender -> residual -> logits: all heads and MLPs behind the sender are the clean run's.
struct AnswerPath {
  HeadId sender;      ///< cut
  PathEffect direct;  ///< of_receiver is absent
};

/// A head's own drop: a receiver's when it is cut everywhere, a sender's when it is cut at the
/// sender's positions.
struct HeadDrop {
  HeadId head;             ///< which
  Estimate logprob_drop;   ///< of the right choice, nats
  Estimate accuracy_drop;  ///< paired
};

/// What `path_patching` found.
struct PathPatching {
  SweepOutcome base;                ///< the untouched model
  std::vector<HeadDrop> senders;    ///< in the order asked for
  std::vector<HeadDrop> receivers;  ///< in the order asked for
  std::vector<AnswerPath> answers;  ///< one for each sender
  std::vector<PairEffect> pairs;    ///< sender-major; those whose receiver stands in a later layer
};

/// Path patching (arXiv 2211.00593, 2304.05969) from every sender to every receiver in a later
/// layer. For a pair (s, r): (i) the clean run is kept; (ii) s is cut at its positions, which gives
/// the residual entering r's layer, once with everything between frozen to the clean run (clean
/// residual + what s's mixer writes now - what it wrote), once with everything live; (iii) r's
/// chosen inputs are those its layer makes of that residual, r's output from them goes into an
/// otherwise clean run, and all after r is live. Where a gated norm follows the scan (Mamba-2) r's
/// neighbours are clean there: with PostNorm they stay so, with PreNorm the norm rescales them.
/// HookError for a head that does not exist, and for a sender that does not write to the residual
/// itself (attention of a shared block) or has a norm behind an SSM mixer; UsageError if no
/// receiver stands behind a sender; TaskError where positions need segments and no example has any,
/// and for fewer than two examples. A sender costs one forward from its layer on, a pair two from
/// the receiver's layer on.
PathPatching path_patching(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& senders, const std::vector<HeadId>& receivers,
                           const PathOptions& options = {});

}  // namespace headlens
