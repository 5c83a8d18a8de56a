// headlens/model: decoding one token after another over preallocated caches.
#include "headlens/model/decoder.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "core/check.h"
#include "model/decoder_body.h"

namespace headlens {

Decoder::Decoder(const LanguageModel& model, const Tensor& ids, const DecoderOptions& options) {
  const c10::NoGradGuard no_grad;
  HEADLENS_CHECK(ShapeError, ids.defined() && ids.dim() == 2 && ids.size(1) <= options.max_length,
                 "[decoder] max_length, expected at least the prompt's {} tokens, got {}",
                 ids.defined() && ids.dim() == 2 ? ids.size(1) : 1, options.max_length);
  ModelState state;
  const Tensor last = at::full({ids.size(0), 1}, ids.size(1) - 1, at::kLong);
  const Tensor logits =
      model.forward(ids, {.state = &state, .logit_positions = last, .first = options.first});
  body_ = std::make_unique<DecoderBody>(model, state, options);
  body_->run_prompt_logits(logits.select(1, 0));
}

Decoder::Decoder(const LanguageModel& model, const ModelState& state,
                 const DecoderOptions& options) {
  const c10::NoGradGuard no_grad;
  HEADLENS_CHECK(ShapeError, !options.first.defined(),
                 "[decoder] first, expected in the state's own, got another");
  body_ = std::make_unique<DecoderBody>(model, state, options);
}

Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

Tensor Decoder::step(const Tensor& ids, Tap* tap) {
  const c10::NoGradGuard no_grad;
  return body_->step(ids, tap);
}
Tensor Decoder::generate(int64_t count, const std::vector<int64_t>& stops) {
  const c10::NoGradGuard no_grad;
  return body_->generate(count, stops);
}
Tensor Decoder::logits() const {
  HEADLENS_CHECK(ShapeError, body_->has_logits_,
                 "[decoder] logits, expected after a prompt or a step, got a state alone");
  return body_->logits_;
}
void Decoder::show_rows(const std::vector<LayerHeads>& wanted) {
  body_->show_rows(wanted);
}
Tensor Decoder::rows(int64_t layer) const {
  const auto found = body_->rows_.find(layer);
  HEADLENS_CHECK(HookError, found != body_->rows_.end() && body_->rows_fresh_,
                 "[decoder] rows of layer {}, expected from a step without a tap after show_rows, "
                 "got none",
                 layer);
  return found->second.rows();
}
Tensor Decoder::ssm_state(int64_t layer) const {
  const int64_t count = body_->model_.layer_count();
  const bool there = 0 <= layer && layer < count &&
                     body_->caches_.layers[static_cast<size_t>(layer)].ssm.defined();
  HEADLENS_CHECK(HookError, there,
                 "[decoder] layer with an SSM state, expected, got layer {} of {}", layer, count);
  return body_->caches_.layers[static_cast<size_t>(layer)].ssm;
}
ModelState Decoder::state() const {
  return body_->state();
}
int64_t Decoder::position() const {
  return body_->position_;
}
int64_t Decoder::max_length() const {
  return body_->max_length_;
}
bool Decoder::recorded() const {
  return body_->graph_ != nullptr;
}
int64_t Decoder::fused_layers() const {
  return std::count_if(body_->layers_.begin(), body_->layers_.end(),
                       [](const auto& layer) { return layer != nullptr; });
}

}  // namespace headlens
