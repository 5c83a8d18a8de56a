// headlens/model: the ways to the next logits of a batch of growing texts.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "headlens/model/language_model.h"

namespace headlens {

/// A batch of prompts that grows by a token a row.
struct PaddedPrompts {
  Tensor ids;        // int64 [row, pos], padded on the left
  Tensor first;      // as in ForwardOptions; undefined where nothing is padded
  int64_t room = 0;  // positions there will be at most
  Tap* tap = nullptr;
};

/// Gives the logits after the prompts and then, for each token a row, those after it.
class GenerationSteps {
 public:
  virtual ~GenerationSteps() = default;
  /// [row, vocab]
  virtual Tensor prompt() = 0;
  /// ids int64 [row] -> [row, vocab]
  virtual Tensor next(const Tensor& ids) = 0;
};

/// A Decoder where nobody looks; the model's forward on its state for a tap; the whole text anew
/// for models that cannot go on from a state.
std::unique_ptr<GenerationSteps> generation_steps(const LanguageModel& model,
                                                  const PaddedPrompts& prompts);

}  // namespace headlens
