// headlens/model: log-probabilities of chosen tokens, without all the logits at once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "headlens/core/dtype.h"

namespace headlens {

class LanguageModel;

/// ln p(token) of each pick, nats: [copies, pick] float64 on the CPU.
///
/// resid [copies * row, slot, d_model] leaves the last layer; picks [3, pick] int64 are (row, slot,
/// token id) of one copy. Each place that is picked from is unembedded once, as many at a time as
/// keep the logits within `most_logits` numbers (at least one place). The softmax is taken in
/// float64 on the CPU and in at least float32 elsewhere. ShapeError for a pick out of range.
Tensor token_logprobs(const LanguageModel& model, const Tensor& resid, const Tensor& picks,
                      int64_t copies = 1, int64_t most_logits = int64_t{1} << 25);

}  // namespace headlens
