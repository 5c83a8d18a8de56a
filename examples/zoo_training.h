// headlens/examples: what the trainers of the bundled models share: lines, losses, cards.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/model/language_model.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/world.h"

namespace headlens::examples {

/// A kind of line with its share of the batch, and the loss below which the stage is over (0: no
/// gate).
struct Share {
  const char* kind;
  double WorldMix::*frequency;
  double share;
  double gate;
};

struct Stage {
  std::vector<Share> shares;
  int64_t max_pairs;
  int64_t words;  // of the word list
  int64_t values;
};

/// What every model ends with: all the world's lines.
Stage whole_world();

/// Lines of one step, padded on the right; which rows are of which kind.
struct Batch {
  Tensor ids;                 // [row, pos] int64
  Tensor weights;             // [row, pos] float32, of predicting ids[pos]
  std::vector<size_t> kinds;  // [row], index into the stage's shares
};

Batch draw_batch(WorldSampler& sampler, const Stage& stage, int64_t rows,
                 const Tokenizer& tokenizer);

/// Linear warm-up over 100 steps, constant, then down to 2 % over the last third; times `rate`.
double rate_at(int64_t step, int64_t steps, double rate);

/// First weights of a bundled model.
std::map<std::string, Tensor> first_weights(const ModelConfig& config, uint64_t seed);

/// Lines of a card's table: accuracy on each task, seed 7. Prints them as they come.
std::string evaluate_all(const LanguageModel& model, const Tokenizer& tokenizer);

}  // namespace headlens::examples
