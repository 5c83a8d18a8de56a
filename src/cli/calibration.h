// headlens/cli: how long this machine takes for a token in each layer of a model, by a short trial.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/common.h"

namespace headlens::cli {

/// Seconds a token, and bytes, of a model's parts.
struct Calibration {
  std::vector<double> layer_seconds;  // [layer], a token
  double logit_seconds = 0;           // a row of logits
  double token_bytes = 0;             // held besides weights and results, a token of a batch
  int64_t weight_size = 4;            // bytes of a weight
  int64_t rows = 0, length = 0;       // of the trial
  double trial_seconds = 0;           // that it took altogether
  /// Of `tokens` through layers from .. to - 1.
  double seconds(double tokens, int64_t from, int64_t to) const;
  double seconds(double tokens) const {
    return seconds(tokens, 0, static_cast<int64_t>(layer_seconds.size()));
  }
};

/// One layer of each make-up with made-up weights of the model's shapes, at the length of the
/// prompts to come, a batch of at most `batch_tokens`; timed until the best of several runs.
Calibration calibrate(const ModelConfig& config, const CommonFlags& flags, int64_t length,
                      int64_t batch_tokens);

/// A model of the config's make-ups for the functions that want one loaded, its tokenizer's
/// directory beside it. No weights are read.
LoadedModel stand_in(const CommonFlags& flags);

}  // namespace headlens::cli
