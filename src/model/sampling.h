// headlens/model: from logits to the next token of each row.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "headlens/core/dtype.h"

namespace headlens {

/// A number in [0, 1), the same on every platform, from the seed, the prompt's number and the step.
double sampling_draw(uint64_t seed, int64_t prompt, int64_t step);

/// One token for each row, on the CPU.
struct ChosenTokens {
  Tensor ids;       // int64 [row]
  Tensor logprobs;  // float64 [row]: ln softmax(logits) of each, nats
};

/// logits [row, vocab]; draws float64 [row], each in [0, 1), not read at temperature 0 (the
/// likeliest token, the first of equals). Otherwise tokens stand by falling probability, equal ones
/// by id, cut as GenerateOptions::top_p says; the one is chosen in whose share of what is left the
/// draw lies. Probabilities are float64 on the CPU and at least float32 elsewhere. Error for NaN.
ChosenTokens choose_tokens(const Tensor& logits, double temperature, double top_p,
                           const Tensor& draws);

}  // namespace headlens
