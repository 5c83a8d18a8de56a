// headlens/tasks: what a task is made of, as plain structs without tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace headlens {

/// Token positions start .. end of a prompt, both included; `end` is the segment's summary token.
struct Segment {
  int64_t start = 0;  ///< first token
  int64_t end = 0;    ///< last token, included
  bool operator==(const Segment&) const = default;
};

/// Bytes begin .. end - 1 of a text.
struct ByteSpan {
  size_t begin = 0;  ///< first byte
  size_t end = 0;    ///< past the last
  bool operator==(const ByteSpan&) const = default;
};

/// A prompt with its possible continuations. Its segments (the stretches a Gather head may
/// compress, one for each choice where the task has them) are given either as tokens or, before any
/// tokenizer is known, as bytes.
struct Example {
  std::string prompt;                ///< text
  std::vector<std::string> choices;  ///< texts that may follow it
  int64_t answer = 0;                ///< index of the right choice
  std::vector<Segment> segments;     ///< token positions, special tokens not counted (JSONL)
  std::vector<ByteSpan> spans;  ///< bytes of the prompt (made tasks); used when `segments` is empty
  /// Text read between the prompt and each choice and not scored: the choices of a partial
  /// evaluation (Winogrande) differ in it. Empty: none.
  std::vector<std::string> leads;
  std::vector<int64_t> lengths;  ///< of each choice, what `accuracy_norm` divides by; empty: none
  std::string source;            ///< where it came from, for messages: "data.jsonl line 7"
  /// A prompt of as many tokens with another answer, for patching (tasks/corrupted.h). Empty: none.
  std::string corrupted;
  int64_t corrupted_answer = -1;  ///< index of the choice right in it; -1: none
};

/// An example as token ids. Positions count from the first id, special tokens included.
struct TokenizedExample {
  std::vector<int64_t> prompt_ids;               ///< [pos]
  std::vector<std::vector<int64_t>> choice_ids;  ///< past the prompt; never empty
  std::vector<int64_t>
      lead_counts;                ///< [choice] tokens at its front that are not scored; empty: none
  std::vector<int64_t> lengths;   ///< as in Example
  int64_t answer = 0;             ///< as in Example
  std::vector<Segment> segments;  ///< token positions
  std::string prompt;             ///< as in Example
  std::vector<std::string> tokens;  ///< text of each prompt token, for reports
};

/// Where a task came from, enough to make it again.
struct TaskInfo {
  std::string spec;                           ///< as the user gave it
  std::string name;                           ///< "kv", "mcq", "jsonl", ...
  int64_t examples = 0;                       ///< how many were made
  uint64_t seed = 0;                          ///< that they were drawn with
  std::map<std::string, std::string> params;  ///< every parameter, defaults included
};

/// Accuracy when choices are compared by log-probability / length.
struct NormalizedAccuracy {
  double accuracy = 0;           ///< 0 .. 1
  double ci_low = 0;             ///< 95 % Wilson interval
  double ci_high = 0;            ///< upper end of the same
  std::vector<uint8_t> correct;  ///< [example] 0 or 1
};

/// How a model did on a task.
struct EvalResult {
  int64_t n = 0;                 ///< examples
  double accuracy = 0;           ///< 0 .. 1
  double ci_low = 0;             ///< 95 % Wilson interval of the accuracy
  double ci_high = 0;            ///< upper end of the same
  double mean_logprob = 0;       ///< of the right choice, nats
  double chance = 0;             ///< mean of 1 / number of choices
  int64_t near_ties = 0;         ///< examples whose two best choices lie within kNearTie
  std::vector<uint8_t> correct;  ///< [example] 0 or 1
  std::vector<double> logprob;   ///< [example] of the right choice, nats
  /// By log-probability divided by the choice's length; only where every example has lengths.
  std::optional<NormalizedAccuracy> norm;
};

}  // namespace headlens
