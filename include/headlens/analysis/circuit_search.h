// headlens/analysis: the smallest sets of heads that carry a task, or break it when cut.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/types.h"
#include "headlens/analysis/work_pool.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// What a task is to keep.
enum class CircuitMeasure {
  Accuracy,  ///< share of right answers
  LogProb    ///< mean ln p of the right choice
};

/// Whose other heads are cut when only a set is kept.
enum class CircuitScope {
  Model,  ///< every other head of the model
  Layers  ///< every other head of the layers that the candidates stand in
};

/// What a search for circuits looks at, and when a set will do.
struct CircuitOptions {
  SweepOptions sweep;                                 ///< positions: All
  CircuitMeasure measure = CircuitMeasure::Accuracy;  ///< what is to be kept or broken
  CircuitScope scope = CircuitScope::Model;           ///< whose other heads are cut
  double carry_share = 0.9;       ///< a set carries the task if keeping only it leaves this share
  double break_share = 0.2;       ///< a set breaks it if at most this share is left without it
  std::vector<HeadId> heads;      ///< those to choose from; empty: every head
  int64_t mamba1_groups = 16;     ///< of a layer, where `heads` is empty
  int64_t candidates = 16;        ///< of those, the ones of largest single drop are searched
  int64_t exhaustive_sets = 512;  ///< sets tried to prove a greedy one the smallest; 0: none
  /// Called with (done, total) steps of a stage, `total` an upper bound; may throw to stop.
  std::function<void(const char* stage, int64_t done, int64_t total)> progress = {};
  WorkPool* pool = nullptr;  ///< where results are kept, step by step; null: nowhere
};

/// The task under one intervention, beside the untouched model on the same examples.
struct SetFigures {
  Estimate accuracy;        ///< Wilson interval
  Estimate accuracy_drop;   ///< of the untouched model's accuracy less this, paired
  double mean_logprob = 0;  ///< nats
  Estimate logprob_drop;    ///< the same of ln p of the right choice, nats
  /// (m - m without any head of the scope) / (m of the untouched model - the same), m the measure.
  double share = 0;
};

/// One head more, or one less.
struct CircuitStep {
  HeadId head;         ///< put in, taken out or cut
  SetFigures figures;  ///< of the set after this step
};

/// A set of candidates and how it was come by.
struct HeadSet {
  std::vector<HeadId> heads;       ///< by layer
  SetFigures figures;              ///< with only these kept, or with these cut
  bool reached = false;            ///< it carries, or breaks, as asked
  std::vector<CircuitStep> steps;  ///< in the order they were taken
};

/// The smallest set that was found. `proved`: every smaller set of candidates was tried, or is
/// known to fail.
struct SmallestSet {
  std::vector<HeadId> heads;  ///< by layer
  SetFigures figures;         ///< with only these kept, or with these cut
  bool reached = false;       ///< it carries, or breaks, as asked
  bool proved = false;        ///< no smaller set of candidates does
};

/// A head that a search may choose, with what it costs alone.
struct Candidate {
  HeadId head;             ///< which
  Estimate accuracy_drop;  ///< cut alone
  Estimate logprob_drop;   ///< cut alone, nats
};

/// What a search for circuits found.
struct CircuitResult {
  SetFigures base;                    ///< the untouched model
  SetFigures without;                 ///< every head of the scope cut
  SetFigures only_candidates;         ///< the candidates kept, every other head of the scope cut
  std::vector<Candidate> candidates;  ///< largest single drop first
  HeadSet removal;   ///< from all candidates, the head that costs least taken out, while it carries
  HeadSet addition;  ///< from none, the head that brings most put in, until it carries
  SmallestSet carries;  ///< the smallest set found that carries the task alone
  HeadSet cutting;     ///< from none, the head whose cut costs most is cut as well, until it breaks
  SmallestSet breaks;  ///< the smallest set found whose cut breaks it
  int64_t sets_run = 0;  ///< sets that were run over all examples, single drops not counted
};

/// The candidates of a search, of the same options: the heads of largest single drop. Errors as
/// below.
std::vector<Candidate> strongest_heads(const LanguageModel& model, const Objective& objective,
                                       const CircuitOptions& options = {});

/// Searches for circuits by joint ablation. Greedy steps look at every head left, so K candidates
/// cost at most 3 K (K + 1) / 2 sets, and `exhaustive_sets` for each proof; a set costs the layers
/// from the first that differs on. The figures of the sets found are those of the examples that
/// they were chosen by: confirm them on others. HookError for a head that does not exist,
/// UsageError for options it cannot work with, TaskError for fewer than two examples and for a task
/// that loses nothing when every head of the scope is cut.
CircuitResult circuit_search(const LanguageModel& model, const Objective& objective,
                             const CircuitOptions& options = {});

}  // namespace headlens
