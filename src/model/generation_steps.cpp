// headlens/model: the ways to the next logits of a batch of growing texts.
#include "model/generation_steps.h"

#include <ATen/ATen.h>

#include <optional>

#include "headlens/model/decoder.h"
#include "headlens/model/row_fork.h"

namespace headlens {
namespace {

Tensor last_position(const Tensor& ids) {
  return at::full({ids.size(0), 1}, ids.size(1) - 1, at::kLong);
}

class DecoderSteps final : public GenerationSteps {
 public:
  DecoderSteps(const LanguageModel& model, const PaddedPrompts& prompts)
      : decoder_(model, prompts.ids, {.max_length = prompts.room, .first = prompts.first}) {}
  Tensor prompt() override { return decoder_.logits(); }
  Tensor next(const Tensor& ids) override { return decoder_.step(ids); }

 private:
  Decoder decoder_;
};

class StateSteps final : public GenerationSteps {
 public:
  StateSteps(const LanguageModel& model, const PaddedPrompts& prompts)
      : model_(model), prompts_(prompts) {}
  Tensor prompt() override {
    return model_
        .forward(prompts_.ids, {.tap = prompts_.tap,
                                .state = &state_,
                                .logit_positions = last_position(prompts_.ids),
                                .first = prompts_.first})
        .select(1, 0);
  }
  Tensor next(const Tensor& ids) override {
    return model_.forward(ids.unsqueeze(1), {.tap = prompts_.tap, .state = &state_}).select(1, 0);
  }

 private:
  const LanguageModel& model_;
  PaddedPrompts prompts_;
  ModelState state_;
};

class WholeTextSteps final : public GenerationSteps {
 public:
  WholeTextSteps(const LanguageModel& model, const PaddedPrompts& prompts)
      : model_(model), text_(prompts) {}
  Tensor prompt() override {
    return model_
        .forward(
            text_.ids,
            {.tap = text_.tap, .logit_positions = last_position(text_.ids), .first = text_.first})
        .select(1, 0);
  }
  Tensor next(const Tensor& ids) override {
    text_.ids = at::cat({text_.ids, ids.to(text_.ids.device()).unsqueeze(1)}, 1);
    return prompt();
  }

 private:
  const LanguageModel& model_;
  PaddedPrompts text_;
};

}  // namespace

std::unique_ptr<GenerationSteps> generation_steps(const LanguageModel& model,
                                                  const PaddedPrompts& prompts) {
  if (!goes_on_from_states(model.config())) {
    return std::make_unique<WholeTextSteps>(model, prompts);
  }
  if (prompts.tap != nullptr) return std::make_unique<StateSteps>(model, prompts);
  return std::make_unique<DecoderSteps>(model, prompts);
}

}  // namespace headlens
