// headlens/analysis: scores as they leave the library: plain structs and Eigen arrays, no tensors.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace headlens {

/// Mean and 95 % interval of something measured over examples.
struct Estimate {
  double value = 0;  ///< the mean
  double low = 0;    ///< lower end of the 95 % interval
  double high = 0;   ///< upper end
};

/// A head, or for Mamba-1 the channels first .. last (both included). Elsewhere first == last.
struct HeadId {
  int64_t layer = 0;  ///< from 0
  int64_t first = 0;  ///< head of the layer, from 0; Mamba-1: channel
  int64_t last = 0;   ///< included
  bool operator==(const HeadId&) const = default;
};

/// What a head does in retrieval (arXiv 2504.18574); the rule: docs/metrics.md.
enum class HeadRole {
  None,      ///< neither
  Gather,    ///< compresses a segment into its last token
  Aggregate  ///< reads summaries at the last prompt token
};

/// "none", "gather", "aggregate".
inline const char* head_role_name(HeadRole role) {
  return role == HeadRole::Gather ? "gather" : role == HeadRole::Aggregate ? "aggregate" : "none";
}

/// Map figures of one head, means over examples. Definitions: docs/metrics.md. Absent: not
/// computed.
struct MapFigures {
  std::optional<double> entropy;            ///< nats, last prompt token's row
  std::optional<double> entropy_norm;       ///< / ln(q + 1)
  std::optional<double> row_mass;           ///< sum_j |M_qj|
  std::optional<double> gather;             ///< P in the own segment, at summary tokens
  std::optional<double> gather_uniform;     ///< what a uniform row would score
  std::optional<double> aggregate;          ///< P of q on summary tokens
  std::optional<double> aggregate_uniform;  ///< of a uniform row
  std::optional<double> target;             ///< P of q on the right segment
  std::optional<double> target_uniform;     ///< of a uniform row
};

/// What a head of a screen's shortlist lost when it was ablated on a few examples.
struct ShortlistMeasure {
  int64_t examples = 0;        ///< how many
  double logprob_drop = 0;     ///< their mean, nats
  int64_t gradient_place = 0;  ///< from 1: where the estimates alone had put it
};

/// One entry of scores.json's `heads`.
struct HeadScore {
  HeadId head;                            ///< which
  std::string kind;                       ///< "attention", "mamba1", "mamba2", "discrete_mamba2"
  std::optional<double> accuracy;         ///< with the head cut, 0 .. 1
  std::optional<Estimate> accuracy_drop;  ///< base less that, paired
  std::optional<double> logprob_drop;     ///< of the right choice, nats
  std::optional<int64_t> near_ties;       ///< examples whose verdict rounding may turn
  /// What attribution estimates `logprob_drop` to be, nats; searches that were screened only.
  std::optional<double> screen_drop;
  std::optional<int64_t> screen_place;           ///< from 1; absent for a group of channels
  std::optional<ShortlistMeasure> screen_exact;  ///< heads of the shortlist only
  /// On how many examples the head was tested before sequential testing stopped; absent: on all.
  std::optional<int64_t> examples;
  /// The drop when the head is cut only at the last prompt token, and only everywhere else;
  /// computed for heads whose drop is significant.
  std::optional<double> drop_at_query;
  std::optional<double> drop_elsewhere;  ///< accuracy, cut at every position but q
  /// The drop when it is cut only at the tokens of segments, and when it only loses what the last
  /// prompt token (and the answer after it) reads from them; for the same heads, in tasks with
  /// segments.
  std::optional<double> drop_in_segments;
  std::optional<double> drop_reading_segments;  ///< accuracy, as said above
  MapFigures map;                               ///< of its map, nothing cut
  HeadRole role = HeadRole::None;               ///< by the rule of docs/metrics.md
};

/// What the untouched model does on the task.
struct BaseScore {
  Estimate accuracy;        ///< Wilson interval
  double mean_logprob = 0;  ///< of the right choice, nats
  int64_t near_ties = 0;    ///< examples whose two best choices lie within kNearTie
  int64_t examples = 0;     ///< how many
};

/// The screen of a search, and how it compares with exact ablation.
struct ScreenSummary {
  int64_t heads = 0;               ///< estimated; channels, for Mamba-1
  int64_t ablated = 0;             ///< exactly
  int64_t chosen = 0;              ///< the first so many by place
  int64_t shortlist = 0;           ///< heads measured on a few examples; 0: that was left out
  int64_t shortlist_examples = 0;  ///< how many
  /// Spearman's rank correlation of the screen's order and the exact log-probability drop over the
  /// ablated heads; absent with fewer than 2.
  std::optional<double> rank_correlation;
  /// Heads that matter and are not among the chosen; absent unless all were ablated.
  std::optional<std::vector<HeadId>> missed;
};

/// The map of a head over one prompt, for reports.
struct MapSample {
  HeadId head;                                        ///< which
  HeadRole role = HeadRole::None;                     ///< of that head
  int64_t first_position = 0;                         ///< of tokens[0] in the prompt
  std::vector<std::string> tokens;                    ///< [pos]
  std::vector<std::pair<int64_t, int64_t>> segments;  ///< token positions, both ends in
  int64_t target_segment = -1;                        ///< the right one; -1: none
  Eigen::MatrixXf map;                                ///< [query, key], signed for SSM heads
};

/// Accuracy at every size of a task, of the whole model or without some heads.
struct CurveLine {
  std::vector<HeadId> without;     ///< cut together; empty: the whole model
  std::vector<Estimate> accuracy;  ///< [size]
};

/// How accuracy falls as a task grows, on examples of another seed than heads were found on.
struct SizeCurve {
  std::string task;               ///< "kv:pairs={},n=128": {} stands for the size
  uint64_t seed = 0;              ///< of the examples
  std::vector<int64_t> sizes;     ///< as they stand in the task
  std::vector<int64_t> examples;  ///< [size]
  std::vector<CurveLine> lines;   ///< the whole model first
};

/// A model in a few words, for reports.
struct ModelSummary {
  std::string name;                      ///< as the user gave it
  std::string family;                    ///< as ModelConfig::family
  std::string architecture;              ///< as config.json has it
  std::string fingerprint;               ///< of the checkpoint; empty: built in memory
  int64_t layers = 0;                    ///< how many
  int64_t d_model = 0;                   ///< width of the residual
  int64_t vocab_size = 0;                ///< logits a position
  int64_t parameters = 0;                ///< tied and shared ones once
  std::vector<std::string> layer_kinds;  ///< [layer]; "mamba2+attention" for two mixers
  std::vector<int64_t> head_counts;      ///< [layer], of all its mixers
};

/// Everything `find` learned. Report writes it; nothing in it needs torch.
struct FindResult {
  ModelSummary model;                   ///< what it is
  BaseScore base;                       ///< the untouched model
  std::vector<HeadScore> heads;         ///< by layer and head
  std::vector<HeadId> gather;           ///< strongest drop first
  std::vector<HeadId> aggregate;        ///< the same of Aggregate heads
  std::vector<MapSample> maps;          ///< of the strongest heads
  std::optional<ScreenSummary> screen;  ///< absent: no screen
  std::optional<SizeCurve> curve;       ///< absent: not asked for
  std::string placement;                ///< "post_norm" or "pre_norm"
  std::string mode;                     ///< "zero", "mean", "resample", "scale"
  /// Batches of the sweeps that did not fit in memory and were halved.
  int64_t out_of_memory = 0;
};

}  // namespace headlens
