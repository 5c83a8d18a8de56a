// headlens/model: what a decoder holds, and the step that it repeats.
#include "model/decoder_body.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "core/check.h"
#include "headlens/core/log.h"
#include "headlens/model/rotary.h"
#include "model/promote.h"

namespace headlens {
namespace {

bool depends_on_length(const RopeSpec& spec) {
  return std::holds_alternative<DynamicRopeScaling>(spec.scaling) ||
         std::holds_alternative<LongRopeScaling>(spec.scaling);
}

/// A buffer of `length` positions that begins with what `filled` [batch, pos, ..] has.
Tensor with_room(const Tensor& filled, int64_t length) {
  if (!filled.defined()) return filled;
  std::vector<int64_t> shape = filled.sizes().vec();
  shape[1] = length;
  Tensor buffer = at::zeros(shape, filled.options());
  buffer.narrow(1, 0, filled.size(1)).copy_(filled);
  return buffer;
}

Tensor own_copy(const Tensor& x) {
  return x.defined() ? x.clone(at::MemoryFormat::Contiguous) : x;
}

/// Buffers of the decoder's own for what a layer has left, with room for `length` keys.
void make_room(LayerState& layer, int64_t length) {
  layer.k = with_room(layer.k, length), layer.v = with_room(layer.v, length);
  layer.conv = own_copy(layer.conv), layer.ssm = own_copy(layer.ssm);
  for (LayerState& graft : layer.grafts) make_room(graft, length);
}

/// The same as forwards take it: the first `length` keys.
void copy_filled(LayerState& layer, int64_t length) {
  if (layer.k.defined()) {
    layer.k = layer.k.narrow(1, 0, length).clone();
    layer.v = layer.v.narrow(1, 0, length).clone();
  }
  layer.conv = own_copy(layer.conv), layer.ssm = own_copy(layer.ssm);
  for (LayerState& graft : layer.grafts) copy_filled(graft, length);
}

/// What a step of the model's own forward left of convolutions and scans, into the buffers. (Keys
/// and values were written there by attention.)
void keep_scans(const LayerState& buffers, const LayerState& left) {
  if (buffers.conv.defined()) buffers.conv.copy_(left.conv);
  if (buffers.ssm.defined()) buffers.ssm.copy_(left.ssm);
  for (size_t i = 0; i < buffers.grafts.size(); ++i) keep_scans(buffers.grafts[i], left.grafts[i]);
}

/// The newest keys and values of a state that grew, into the buffers.
void keep_newest(const LayerState& buffers, const LayerState& grown, int64_t position) {
  if (buffers.k.defined()) {
    buffers.k.select(1, position).copy_(grown.k.select(1, -1));
    buffers.v.select(1, position).copy_(grown.v.select(1, -1));
  }
  for (size_t i = 0; i < buffers.grafts.size(); ++i) {
    keep_newest(buffers.grafts[i], grown.grafts[i], position);
  }
}

/// Whether some rotary positions of a block, or of those that its grafted heads are of, look at
/// lengths on the host.
bool looks_at_length(const Block& block) {
  for (const AttentionSpec& spec : attention_specs(block.spec())) {
    if (spec.rope && depends_on_length(*spec.rope)) return true;
  }
  return std::any_of(block.grafted_heads().begin(), block.grafted_heads().end(),
                     [](const GraftedHead& graft) { return looks_at_length(*graft.donor); });
}

}  // namespace

DecoderBody::DecoderBody(const LanguageModel& model, const ModelState& state,
                         const DecoderOptions& options)
    : model_(model), max_length_(options.max_length), position_(state.position) {
  HEADLENS_CHECK(ShapeError, position_ > 0 && std::ssize(state.layers) == model.layer_count(),
                 "[decoder] state, expected {} layers after a forward, got {} layers and {} "
                 "positions",
                 model.layer_count(), state.layers.size(), position_);
  HEADLENS_CHECK(ShapeError, position_ <= max_length_,
                 "[decoder] max_length, expected at least the {} positions there are, got {}",
                 position_, max_length_);
  caches_ = state;
  for (LayerState& layer : caches_.layers) {
    make_room(layer, max_length_);
    for (const Tensor& tensor : {layer.k, layer.ssm}) {
      if (tensor.defined()) batch_ = tensor.size(0);
    }
  }
  HEADLENS_CHECK(ShapeError, batch_ > 0, "[decoder] state, expected a layer with one, got none");
  const at::Device device = model.device();
  if (state.first.defined()) {
    caches_.first = state.first.to(device).contiguous();
    const Tensor on_cpu = state.first.to(at::kCPU).contiguous();
    first_.assign(on_cpu.data_ptr<int64_t>(), on_cpu.data_ptr<int64_t>() + batch_);
  }
  const auto index = at::TensorOptions(at::kLong).device(device);
  ids_ = at::zeros({batch_}, index);
  chosen_ = at::zeros({batch_, max_length_ + 1}, index);
  is_at_ = at::full({1}, position_, index);
  ticket_ = at::zeros({1}, index.dtype(at::kInt));
  logits_ = at::zeros({batch_, model.config().vocab_size}, index.dtype(model.dtype()));
  resid_ = at::zeros({batch_, model.config().d_model}, index.dtype(model.dtype()));
  const bool one_device = model.devices().size() == 1;
  may_record_ = options.record && one_device && DeviceGraph::can_record(device);
  layers_.resize(caches_.layers.size());
  if (one_device) make_layers();
  link_layers();
}

void DecoderBody::make_layers() {
  const ModelConfig& config = model_.config();
  const auto dtype = model_.dtype();
  const bool narrow = config.residual_in_fp32 && at_least_float32(dtype) != dtype;
  if (!narrow && config.norm != NormKind::Layer && model_.lm_head().is_contiguous()) {
    head_.weights = {model_.lm_head()};
    head_.norm_weight = model_.final_norm().weight();
    head_.eps = model_.final_norm().eps();
    head_.plus_one = config.norm == NormKind::RmsPlusOne;
  }
  for (int64_t i = 0; i < model_.layer_count(); ++i) {
    const Block& block = model_.block(i);
    if (!narrow && StepLayer::knows(block, config.d_model)) {
      const bool turns = block.attention() != nullptr && block.attention()->spec().rope;
      const DecodeTurn table = turns ? table_of(*block.attention()->spec().rope) : DecodeTurn();
      layers_[static_cast<size_t>(i)] = std::make_unique<StepLayer>(block, table);
      continue;
    }
    if (looks_at_length(block)) may_record_ = false;
  }
}

const DecodeTurn& DecoderBody::table_of(const RopeSpec& spec) {
  for (const auto& [known, table] : tables_) {
    if (known == spec) return table;
  }
  std::vector<int64_t> all = lengths(position_ + 1);
  if (!depends_on_length(spec)) all.resize(1);
  tables_.emplace_back(spec, turn_table(spec, all, max_length_, model_.device(), model_.dtype()));
  return tables_.back().second;
}

/// Each fused layer knows whether a projection follows it.
void DecoderBody::link_layers() {
  bool fused = !head_.weights.empty();
  for (auto layer = layers_.rbegin(); layer != layers_.rend(); ++layer) {
    if (*layer) (*layer)->overlap_next(fused);
    fused = *layer != nullptr;
  }
}

/// Tokens of each row's own text among the first `position`; one number where there is no padding.
std::vector<int64_t> DecoderBody::lengths(int64_t position) const {
  if (first_.empty()) return {position};
  std::vector<int64_t> all;
  for (const int64_t first : first_) all.push_back(position - first);
  return all;
}

void DecoderBody::check_ids(const Tensor& ids) const {
  const bool fits =
      ids.defined() && ids.dim() == 1 && ids.size(0) == batch_ && ids.scalar_type() == at::kLong;
  HEADLENS_CHECK(ShapeError, fits, "[decoder] ids, expected int64 [{}], got {}", batch_,
                 ids.defined() ? dtype_name(ids.scalar_type()) + " " + shape_string(ids.sizes())
                               : "an undefined tensor");
  const int64_t vocab = model_.config().vocab_size;
  HEADLENS_CHECK(ShapeError, ids.ge(0).logical_and(ids.lt(vocab)).all().item<bool>(),
                 "[decoder] token ids, expected 0 to {}, got {} to {}", vocab - 1,
                 ids.min().item<int64_t>(), ids.max().item<int64_t>());
}

void DecoderBody::check_room(int64_t count) const {
  HEADLENS_CHECK(ShapeError, position_ + count <= max_length_,
                 "[decoder] positions, expected at most max_length = {}, got {}", max_length_,
                 position_ + count);
  const int64_t learned = model_.config().max_position;
  HEADLENS_CHECK(ShapeError, learned == 0 || position_ + count <= learned,
                 "[decoder] positions, expected at most the {} that were learned, got {}", learned,
                 position_ + count);
}

/// As in the model's own rotary: what is cached was turned by the frequencies of a shorter text.
void DecoderBody::check_growth() const {
  for (const auto& [spec, table] : tables_) {
    if (!depends_on_length(spec)) continue;
    for (const int64_t length : lengths(position_)) {
      HEADLENS_CHECK(
          ShapeError,
          length <= 0 || rotary_frequencies(spec, length + 1) == rotary_frequencies(spec, length),
          "[decoder] a text of {} tokens, expected to be run from its start (its length "
          "changes the rotary frequencies), got a state of {} tokens",
          length + 1, length);
    }
  }
}

void DecoderBody::run_prompt_logits(const Tensor& logits) {
  logits_.copy_(logits);
  ids_.copy_(logits_.argmax(-1));
  chosen_.select(1, position_).copy_(ids_);
  has_logits_ = true;
}

Tensor DecoderBody::step(const Tensor& ids, Tap* tap) {
  check_ids(ids);
  check_room(1);
  ids_.copy_(ids);
  if (tap != nullptr) {
    step_seen_by(tap);
  } else {
    advance();
  }
  return logits_;
}

Tensor DecoderBody::generate(int64_t count, const std::vector<int64_t>& stops) {
  HEADLENS_CHECK(ShapeError, has_logits_,
                 "[decoder] generate, expected after a prompt or a step, got a state alone");
  HEADLENS_CHECK(ShapeError, count >= 0, "[decoder] count, expected 0 or more, got {}", count);
  check_room(count);
  const int64_t from = position_;
  std::vector<bool> stopped(static_cast<size_t>(batch_), stops.empty());
  bool done = false;
  for (int64_t i = 0; i < count && !done; ++i) {
    if (!stops.empty()) done = all_stopped(stopped, stops);
    advance();
  }
  Tensor tokens = chosen_.slice(1, from, position_).clone();
  if (stops.empty()) return tokens;
  const Tensor ends = at::isin(tokens, at::tensor(stops, tokens.options()));
  // A row's last real token is its first stop: the index of that, or of the row's own place.
  const Tensor seen = ends.cumsum(1), place = at::arange(tokens.size(1), tokens.options());
  const Tensor first_stop = (seen == 0).sum(1, /*keepdim=*/true);
  return tokens.gather(1, at::minimum(place.expand_as(tokens), first_stop));
}

/// Whether every row has given a stop, the tokens now to be fed among them.
bool DecoderBody::all_stopped(std::vector<bool>& stopped, const std::vector<int64_t>& stops) const {
  const Tensor now = ids_.to(at::kCPU).contiguous();
  for (size_t row = 0; row < stopped.size(); ++row) {
    const int64_t token = now.data_ptr<int64_t>()[row];
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) stopped[row] = true;
  }
  return std::all_of(stopped.begin(), stopped.end(), [](bool one) { return one; });
}

/// One step with the ids as they are.
void DecoderBody::advance() {
  const c10::NoGradGuard no_grad;
  check_growth();
  if (!graph_ && may_record_ && warm_) {
    try {
      graph_ = DeviceGraph::record(model_.device(), [this] { run_step(); });
    } catch (const DeviceError& error) {
      may_record_ = false;
      log_warn(fmt::format("decoding is not recorded, and slower: {}", error.what()));
    }
  }
  if (graph_) {
    graph_->replay();
  } else {
    run_step();
    warm_ = true;  // libraries are set up, and the next step can be recorded
  }
  ++position_;
  rows_fresh_ = has_logits_ = true;
}

/// What is recorded: host numbers that change from step to step must not come in.
void DecoderBody::run_step() {
  Tensor resid = embed();
  const Tensor embedding = model_.prompt_of(resid.unsqueeze(1)).embedding;
  ModelState now = caches_;
  now.position = position_;
  const auto tables = std::make_shared<RotaryTables>();
  for (int64_t i = 0; i < model_.layer_count(); ++i) {
    resid = run_layer(i, resid, now, embedding, tables);
  }
  unembed(resid);
  decode_pick(logits_, ids_, chosen_, is_at_, ticket_);
}

Tensor DecoderBody::embed() const {
  const ModelConfig& config = model_.config();
  if (config.max_position == 0 && !config.residual_in_fp32) {
    decode_embed(model_.embedding(), ids_, config.embed_scale, resid_);
    return resid_;
  }
  Prompt prompt;
  prompt.step = is_at_, prompt.first = caches_.first, prompt.ids_checked = true;
  return model_.embed(ids_.unsqueeze(1), /*tap=*/nullptr, prompt).squeeze(1);
}

/// [batch, d_model] -> [batch, d_model]
Tensor DecoderBody::run_layer(int64_t layer, const Tensor& resid, ModelState& now,
                              const Tensor& embedding,
                              const std::shared_ptr<RotaryTables>& tables) {
  const auto index = static_cast<size_t>(layer);
  const LayerState& cache = caches_.layers[index];
  if (layers_[index]) {
    layers_[index]->run(resid, cache, is_at_, caches_.first, resid_);
    return resid_;
  }
  Prompt prompt;
  prompt.step = is_at_, prompt.first = caches_.first;
  prompt.embedding = embedding, prompt.tables = tables;
  const auto rows = rows_.find(layer);
  StepRows* seen = rows != rows_.end() ? &rows->second : nullptr;
  Tensor out =
      model_.run_layers(resid.unsqueeze(1), layer, layer + 1, seen, &now, prompt).squeeze(1);
  keep_scans(cache, now.layers[index]);
  if (seen != nullptr) seen->compute(cache, is_at_, caches_.first);
  return out;
}

void DecoderBody::unembed(const Tensor& resid) {
  const ModelConfig& config = model_.config();
  if (head_.weights.empty()) {
    logits_.copy_(model_.unembed(resid));
    return;
  }
  decode_linear(resid.contiguous(), head_, /*residual=*/{}, logits_);
  if (config.logit_scale != 1) logits_.mul_(config.logit_scale);
  if (config.logit_softcap > 0) {
    logits_.copy_((logits_ / config.logit_softcap).tanh() * config.logit_softcap);
  }
}

/// The model's own forward over a copy of the caches, whose newest entries then join them.
void DecoderBody::step_seen_by(Tap* tap) {
  ModelState grown = state();
  const Tensor logits = model_.forward(ids_.unsqueeze(1), {.tap = tap, .state = &grown});
  for (size_t i = 0; i < caches_.layers.size(); ++i) {
    keep_newest(caches_.layers[i], grown.layers[i], position_);
    keep_scans(caches_.layers[i], grown.layers[i]);
  }
  logits_.copy_(logits.select(1, 0));
  decode_pick(logits_, ids_, chosen_, is_at_, ticket_);
  ++position_;
  rows_fresh_ = false, has_logits_ = true;
}

void DecoderBody::show_rows(const std::vector<LayerHeads>& wanted) {
  for (const auto& layer : layers_) {
    if (layer) layer->show_rows({}, {});
  }
  rows_.clear();
  graph_.reset();
  rows_fresh_ = false;
  for (const LayerHeads& one : wanted) {
    HEADLENS_CHECK(HookError, 0 <= one.layer && one.layer < model_.layer_count(),
                   "[decoder] layer, expected 0 to {}, got {}", model_.layer_count() - 1,
                   one.layer);
    const auto index = static_cast<size_t>(one.layer);
    const StepRows rows(model_.config().layers[index], one, batch_, max_length_,
                        caches_.layers[index].k);
    if (layers_[index]) layers_[index]->show_rows(rows.heads(), rows.rows());
    rows_.insert_or_assign(one.layer, rows);
  }
}

ModelState DecoderBody::state() const {
  ModelState copy = caches_;
  copy.position = position_;
  for (LayerState& layer : copy.layers) copy_filled(layer, position_);
  return copy;
}

}  // namespace headlens
