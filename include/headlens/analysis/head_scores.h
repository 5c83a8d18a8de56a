// headlens/analysis: what heads look like by where they look: previous token, duplicate, induction.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "headlens/analysis/types.h"
#include "headlens/core/dtype.h"
#include "headlens/core/kept_steps.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// How the scores of heads are computed.
struct HeadScoreOptions {
  /// Tokens held in one forward; prompts of one length share one, a single one may be longer.
  int64_t max_batch_tokens = 1;
  std::function<void(int64_t, int64_t)> progress = {};  ///< prompts done, of all
  KeptSteps steps = {};                                 ///< a batch is a step
};

/// Shares of a head's map P that lie on a pattern, sum of P on it / sum of P, mean over prompts:
/// the "mul" measure of TransformerLens' head_detector. For a group of channels the mean over them.
struct PatternScores {
  HeadId head;                 ///< which, or which channels
  std::string kind;            ///< as HeadScore::kind
  double previous_token = 0;   ///< j = i - 1
  double duplicate_token = 0;  ///< j < i, token j = token i
  double induction = 0;        ///< j <= i, token j - 1 = token i (arXiv 2209.11895)
};

/// `ids` [prompt, pos] int64 with at least 2 positions; the maps of state-space heads are
/// row-normalised |M| (docs/metrics.md). HookError for a head that does not exist, ShapeError for
/// other ids. Figures are streamed.
std::vector<PatternScores> pattern_scores(const LanguageModel& model, const Tensor& ids,
                                          const std::vector<HeadId>& targets,
                                          const HeadScoreOptions& options);
/// One forward a prompt.
std::vector<PatternScores> pattern_scores(
    const LanguageModel& model, const Tensor& ids, const std::vector<HeadId>& targets,
    const std::function<void(int64_t, int64_t)>& progress = {}, const KeptSteps& steps = {});

/// Random tokens said twice: [prompt, 2 * period] int64, drawn from 0 .. vocab - 1 without regard
/// to what they mean. The same seed gives the same ids everywhere. UsageError for a number below 1.
Tensor repeated_tokens(int64_t vocab, int64_t prompts, int64_t period, uint64_t seed);

/// One needle in a prompt, and what the model should say of it.
struct RetrievalTrial {
  std::vector<int64_t> prompt;  ///< token ids
  PromptSegment needle;         ///< token positions, both ends included
  std::vector<int64_t> answer;  ///< token ids
};

/// The retrieval-head score of one head (arXiv 2404.15574): of each token w that the model writes,
/// a hit is a head whose largest entry of the last row is on a token of the needle that is w.
struct RetrievalScore {
  HeadId head;       ///< which
  std::string kind;  ///< as HeadScore::kind
  double hits = 0;   ///< each hit counts 1 / needle length, as the authors' code has it
  double share = 0;  ///< different needle positions hit / needle length, as the paper has it
};

/// Retrieval-head scores of several heads over the same trials.
struct RetrievalScores {
  int64_t trials = 0;  ///< that were decoded
  int64_t kept = 0;  ///< those whose answer was found: recall of the answer's tokens above one half
  std::vector<RetrievalScore> heads;  ///< means over kept trials; all 0 where none was kept
};

/// Every trial is decoded greedily, as many tokens as its answer has, at most `max_steps`; each
/// step is a forward of the whole text, since a state-space map's keys are those of one forward.
/// HookError for a head that does not exist, TaskError for no trial, and for an empty prompt,
/// needle or answer. Trials that follow each other and have one length are decoded together.
RetrievalScores retrieval_scores(const LanguageModel& model,
                                 const std::vector<RetrievalTrial>& trials,
                                 const std::vector<HeadId>& targets, int64_t max_steps,
                                 const HeadScoreOptions& options);
/// One trial after another.
RetrievalScores retrieval_scores(const LanguageModel& model,
                                 const std::vector<RetrievalTrial>& trials,
                                 const std::vector<HeadId>& targets, int64_t max_steps = 50,
                                 const std::function<void(int64_t, int64_t)>& progress = {},
                                 const KeptSteps& steps = {});

}  // namespace headlens
