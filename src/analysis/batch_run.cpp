// headlens/analysis: a batch on its way through the layers, untouched, and variants that leave it.
#include "analysis/batch_run.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "analysis/batch_rows.h"
#include "analysis/output_tap.h"
#include "headlens/model/rotary.h"

namespace headlens {
namespace {

/// values [row, pos, ..] at positions [row, n] -> [row, n, ..]
Tensor at_positions(const Tensor& values, const Tensor& positions) {
  std::vector<int64_t> shape = values.sizes().vec();
  shape[1] = positions.size(1);
  Tensor index = positions.to(values.device());
  while (index.dim() < values.dim()) index = index.unsqueeze(-1);
  return values.gather(1, index.expand(shape));
}

int64_t bytes_of(const LayerState& state) {
  int64_t bytes = 0;
  for (const Tensor& part : {state.k, state.v, state.conv, state.ssm}) {
    if (part.defined()) bytes += static_cast<int64_t>(part.nbytes());
  }
  return bytes;
}

}  // namespace

BatchRun::BatchRun(const LanguageModel& model, const Objective& objective, int64_t index,
                   Trunks trunks)
    : model_(model),
      batch_(objective.batch(index)),
      index_(index),
      fork_(fork_rows(model.config(), batch_, trunks)) {
  if (!fork_) {
    trunk_ = start(batch_.ids, 0, batch_.logit_positions);
    return;
  }
  trunk_ = start(fork_->trunk_ids, 0, fork_->trunk_positions);
  rest_ = start(fork_->rest_ids, fork_->length, fork_->rest_positions);
  rest_state_.layers.resize(static_cast<size_t>(model.layer_count()));
  rest_state_.position = fork_->length;
}

RowPart BatchRun::start(const Tensor& ids, int64_t first, const Tensor& positions) const {
  Prompt prompt;
  prompt.start = first;
  prompt.tables = std::make_shared<RotaryTables>();
  const Tensor resid = model_.embed(ids, nullptr, prompt);
  prompt.embedding = model_.prompt_of(resid).embedding;
  return {resid, {}, prompt, positions.to(model_.device())};
}

int64_t BatchRun::tokens() const {
  const auto of = [](const RowPart& part) {
    return part.resid.defined() ? part.resid.size(0) * part.resid.size(1) : 0;
  };
  return of(trunk_) + of(rest_);
}

Tensor BatchRun::of_trunk(const Tensor& values) const {
  if (!fork_ || !values.defined()) return values;
  return values.index_select(0, fork_->trunk_rows.to(values.device())).slice(1, 0, fork_->length);
}

Tensor BatchRun::of_rest(const Tensor& values) const {
  return fork_ && values.defined() ? values.slice(1, fork_->length) : Tensor();
}

void BatchRun::run_layer(std::optional<TapPoint> point) {
  const auto layer = static_cast<size_t>(layer_);
  const auto run = [&](RowPart& part, ModelState* state) {
    OutputTap tap(point ? std::vector{*point} : std::vector<TapPoint>{});
    Tensor leaving = model_.run_layers(part.resid, layer_, layer_ + 1, &tap, state, part.prompt);
    part.outputs = point ? tap.outputs.begin()->second : Tensor();
    return leaving;
  };
  next_trunk_ = run(trunk_, fork_ ? &trunk_state_ : nullptr);
  if (!fork_) return;
  rest_state_.layers[layer] = forked_state(trunk_state_.layers[layer], fork_->owner);
  largest_state_ = std::max(largest_state_, bytes_of(rest_state_.layers[layer]));
  rest_state_.position = fork_->length;  // the last layer moves it on
  next_rest_ = run(rest_, &rest_state_);
  trunk_state_.layers[layer] = rest_state_.layers[layer] = {};  // nobody reads them again
}

void BatchRun::advance() {
  trunk_.resid = std::exchange(next_trunk_, {});
  rest_.resid = std::exchange(next_rest_, {});
  trunk_.outputs = Tensor();
  rest_.outputs = Tensor();
  ++layer_;
}

Tensor BatchRun::leaving() const {
  const Tensor trunk = at_positions(trunk_.resid, trunk_.positions);
  return fork_ ? join_fork(*fork_, trunk, at_positions(rest_.resid, rest_.positions)) : trunk;
}

Tensor BatchRun::run_part(const RowPart& part, int64_t variants, bool inside, Tap* tap,
                          ModelState* state) const {
  const int64_t end = model_.layer_count();
  const Prompt prompt = repeated_rows(part.prompt, variants);
  const Tensor positions = repeated_rows(part.positions, variants);
  if (!inside) {
    const Tensor resid = repeated_rows(part.resid, variants);
    return model_.run_to_end(resid, layer_, positions, tap, state, prompt);
  }
  const TapPoint point = head_output_point(model_.config(), layer_);
  const Tensor outputs = tap->visit(point, repeated_rows(part.outputs, variants));
  if (layer_ + 1 == end) {  // what is left goes position by position
    const Tensor entering = at_positions(part.resid, part.positions);
    return model_.finish_layer(layer_, repeated_rows(entering, variants),
                               at_positions(outputs, positions));
  }
  const Tensor resid = model_.finish_layer(layer_, repeated_rows(part.resid, variants), outputs);
  return model_.run_to_end(resid, layer_ + 1, positions, tap, state, prompt);
}

Tensor BatchRun::run_variants(int64_t variants, bool inside, const PartTaps& taps) const {
  if (!fork_) return run_part(trunk_, variants, inside, taps.trunk, nullptr);
  ModelState state;
  const Tensor trunk = run_part(trunk_, variants, inside, taps.trunk, &state);
  const int64_t trunks = fork_->trunk_rows.numel();
  const Tensor shift = at::arange(variants, at::kLong).unsqueeze(1) * trunks;
  ModelState after = forked_state(state, (shift + fork_->owner).flatten());
  after.position = fork_->length;
  state = {};
  return join_fork(*fork_, trunk, run_part(rest_, variants, inside, taps.rest, &after), variants);
}

}  // namespace headlens
