// headlens/model: the language model: blocks in a list, and one forward for all families.
#include "headlens/model/language_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "core/check.h"
#include "core/glob.h"
#include "headlens/core/checkpoint.h"
#include "headlens/model/block.h"
#include "headlens/model/families.h"
#include "headlens/model/norm.h"
#include "headlens/model/rotary.h"
#include "model/promote.h"
#include "model/scaled.h"

namespace headlens {
namespace {

constexpr int64_t kWholeModel = -1;

/// x on `device`; where that is a GPU the host does not wait for what it still does.
Tensor moved(const Tensor& x, at::Device device) {
  return x.to(device, x.scalar_type(), /*non_blocking=*/device.is_cuda());
}

void check_ids(const Tensor& ids, int64_t vocab) {
  HEADLENS_CHECK(ShapeError, ids.defined() && ids.dim() == 2 && ids.scalar_type() == at::kLong,
                 "[forward] ids, expected int64 [batch, pos], got {}",
                 ids.defined() ? dtype_name(ids.scalar_type()) + " " + shape_string(ids.sizes())
                               : "an undefined tensor");
  HEADLENS_CHECK(ShapeError, ids.numel() > 0, "[forward] ids, expected at least one token, got {}",
                 shape_string(ids.sizes()));
  const Tensor outside = ids.lt(0).logical_or(ids.ge(vocab));
  HEADLENS_CHECK(ShapeError, !outside.any().item<bool>(),
                 "[forward] token id, expected 0 to {}, got {}", vocab - 1,
                 ids.masked_select(outside)[0].item<int64_t>());
}

/// Positions of logits fit ids [batch, pos].
void check_positions(const Tensor& positions, int64_t batch, int64_t pos) {
  const bool fits = positions.dim() == 2 && positions.scalar_type() == at::kLong &&
                    positions.size(0) == batch && positions.numel() > 0;
  HEADLENS_CHECK(ShapeError, fits,
                 "[forward] logit_positions, expected int64 [batch={}, n], got {} {}", batch,
                 dtype_name(positions.scalar_type()), shape_string(positions.sizes()));
  const Tensor outside = positions.lt(0).logical_or(positions.ge(pos));
  HEADLENS_CHECK(ShapeError, !outside.any().item<bool>(),
                 "[forward] logit position, expected 0 to {}, got {}", pos - 1,
                 positions.masked_select(outside)[0].item<int64_t>());
}

/// Residual at chosen positions: resid [batch, pos, d_model], positions [batch, n] -> [batch, n,
/// d_model]
Tensor take_positions(const Tensor& resid, const Tensor& positions) {
  const Tensor index = moved(positions, resid.device()).unsqueeze(-1);
  return resid.gather(1, index.expand({-1, -1, resid.size(-1)}));
}

/// The prompt with what a state knows of it, and room for what its layers share.
Prompt seen_by_layers(const Prompt& prompt, const ModelState* state) {
  Prompt seen = prompt;
  if (state != nullptr) {
    seen.start = state->position;
    if (!seen.first.defined()) seen.first = state->first;
  }
  if (!seen.tables) seen.tables = std::make_shared<RotaryTables>();
  return seen;
}

/// A state that no forward has touched gets its layers; any other must fit.
void prepare_state(ModelState* state, size_t layers, int64_t batch) {
  if (state == nullptr) return;
  if (state->layers.empty()) state->layers.resize(layers);
  HEADLENS_CHECK(ShapeError, state->layers.size() == layers,
                 "[forward] state, expected {} layers, got {}", layers, state->layers.size());
  for (const LayerState& layer : state->layers) {
    for (const Tensor& tensor : {layer.k, layer.conv, layer.ssm}) {
      HEADLENS_CHECK(ShapeError, !tensor.defined() || tensor.size(0) == batch,
                     "[forward] state, expected batch {}, got {}", batch, tensor.size(0));
    }
  }
}

/// Where each row's text begins: given now, or kept by the state. int64 [batch], or undefined.
Tensor take_first(const Tensor& given, ModelState* state, const Tensor& ids) {
  if (!given.defined()) return state != nullptr ? state->first : Tensor();
  const bool fits = given.dim() == 1 && given.scalar_type() == at::kLong && ids.dim() == 2 &&
                    given.size(0) == ids.size(0);
  HEADLENS_CHECK(ShapeError, fits, "[forward] first, expected int64 [batch={}], got {} {}",
                 ids.size(0), dtype_name(given.scalar_type()), shape_string(given.sizes()));
  const Tensor on_cpu = given.to(at::kCPU);
  HEADLENS_CHECK(ShapeError, on_cpu.ge(0).logical_and(on_cpu.lt(ids.size(1))).all().item<bool>(),
                 "[forward] first, expected 0 to {} in each row, got {} to {}", ids.size(1) - 1,
                 on_cpu.min().item<int64_t>(), on_cpu.max().item<int64_t>());
  HEADLENS_CHECK(ShapeError, state == nullptr || state->position == 0,
                 "[forward] first, expected in the first forward of a state, got it after {} "
                 "positions",
                 state != nullptr ? state->position : 0);
  if (state != nullptr) state->first = given;
  return given;
}

/// Weights stored as integers are quantised, in ways that only their own library knows.
void check_dtypes(const Checkpoint& checkpoint, const std::vector<std::string>& unread) {
  for (const std::string& name : checkpoint.names()) {
    const auto takes = [&](const std::string& glob) { return glob_match(glob, name); };
    if (std::any_of(unread.begin(), unread.end(), takes)) continue;
    const at::ScalarType dtype = checkpoint.info(name).dtype;
    HEADLENS_CHECK(CheckpointError, at::isFloatingType(dtype),
                   "[{}] tensor '{}', expected a floating-point dtype, got {}",
                   checkpoint.path().string(), name, dtype_name(dtype));
  }
}

/// A tied model may store a head besides; where that is another one, it counts (as in
/// transformers).
bool has_own_head(const Checkpoint& checkpoint, const TensorNames& names) {
  const std::string head = names.lm_head + ".weight", embed = names.embed + ".weight";
  if (!checkpoint.has(head) || !checkpoint.has(embed)) return false;
  if (checkpoint.first_name(head) == checkpoint.first_name(embed)) return false;
  const bool own = !at::equal(checkpoint.tensor(head), checkpoint.tensor(embed));
  for (const std::string& name : {head, embed}) checkpoint.file_of(name).release(name);
  return own;
}

/// Spreads by the bytes that the tensors are stored in.
LayerSpread spread_of(const Checkpoint& checkpoint, const ModelConfig& config,
                      const TensorNames& names, const std::vector<at::Device>& devices) {
  std::vector<int64_t> layers(config.layers.size());
  std::vector<std::string> prefixes;
  for (size_t i = 0; i < layers.size(); ++i) {
    prefixes.push_back(fmt::format(fmt::runtime(names.layer), i) + ".");
  }
  int64_t embed = 0, head = 0;
  for (const std::string& name : checkpoint.names()) {
    const int64_t bytes = checkpoint.info(name).bytes();
    for (size_t i = 0; i < layers.size(); ++i) layers[i] += name.starts_with(prefixes[i]) * bytes;
    if (name == names.embed + ".weight") embed = bytes;
    if (name == names.lm_head + ".weight") head = bytes;
  }
  return spread_layers(devices, layers, embed, config.tied_embeddings ? embed : head);
}

/// A tied head is the embedding: the same tensor, if that is on the same device.
std::string head_name(const ModelConfig& config, const TensorNames& names) {
  return (config.tied_embeddings ? names.embed : names.lm_head) + ".weight";
}

}  // namespace

LanguageModel LanguageModel::load(const std::filesystem::path& dir, const LoadOptions& options) {
  const auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(dir));
  const std::string where = (dir / "config.json").string();
  const auto& own = options.family;
  ModelConfig config = own ? parse_model_config(checkpoint->config_json(), *own, where)
                           : parse_model_config(checkpoint->config_json(), where);
  const auto unread = own ? ignored_tensors(config, own->tensors) : ignored_tensors(config);
  check_dtypes(*checkpoint, unread);
  // Which of the family's spellings the files use.
  const TensorNames names =
      own ? own->tensors
          : tensor_names(config, WeightScope::from_checkpoint(checkpoint, at::kFloat, at::kCPU));
  if (has_own_head(*checkpoint, names)) config.tied_embeddings = false;
  const std::vector<at::Device> devices =
      options.devices.empty() ? std::vector{options.device} : options.devices;
  const LayerSpread spread = spread_of(*checkpoint, config, names, devices);
  const at::ScalarType native = spread.embed.is_cpu() ? at::kFloat : parse_dtype(config.dtype);
  const WeightScope weights = WeightScope::from_checkpoint(
      checkpoint, options.dtype.value_or(native), spread.embed, options.progress);
  LanguageModel model = assemble(config, weights, spread, names);
  weights.check_all_read(unread);
  model.fingerprint_ = checkpoint->fingerprint();
  return model;
}

LanguageModel LanguageModel::build(const ModelConfig& config, const WeightScope& weights) {
  return build(config, weights, tensor_names(config, weights));
}

LanguageModel LanguageModel::build(const ModelConfig& config, const WeightScope& weights,
                                   const TensorNames& names) {
  const at::Device device = weights.device();
  return assemble(config, weights, {device, {config.layers.size(), device}, device}, names);
}

LanguageModel LanguageModel::build(const ModelConfig& config, const WeightScope& weights,
                                   const LayerSpread& spread) {
  return assemble(config, weights, spread, tensor_names(config, weights.on(spread.embed)));
}

LanguageModel LanguageModel::assemble(const ModelConfig& config, const WeightScope& all,
                                      const LayerSpread& spread, const TensorNames& names) {
  HEADLENS_CHECK(ShapeError, spread.layers.size() == config.layers.size(),
                 "[build] spread, expected {} layers, got {}", config.layers.size(),
                 spread.layers.size());
  const WeightScope weights = all.on(spread.embed), last = all.on(spread.head);
  LanguageModel model;
  model.config_ = config;
  model.embed_ = weights.get(names.embed + ".weight", {config.vocab_size, config.d_model});
  if (config.max_position > 0) {
    model.position_embed_ =
        weights.get(names.position_embed + ".weight", {config.max_position, config.d_model});
  }
  for (int64_t i = 0; i < std::ssize(config.layers); ++i) {
    const WeightScope there = weights.on(spread.layers[static_cast<size_t>(i)]);
    model.blocks_.push_back(std::make_shared<const Block>(config, i, names, there));
  }
  model.block_devices_ = spread.layers;
  for (at::Device& device : model.block_devices_) {  // "cuda" is the one that the embedding went to
    if (device.type() == model.device().type() && !device.has_index()) device = model.device();
  }
  model.final_norm_ =
      Norm(last.scope(names.final_norm), config.d_model, config.norm, config.norm_eps);
  model.lm_head_ = last.get(head_name(config, names), {config.vocab_size, config.d_model});
  return model;
}

at::ScalarType LanguageModel::dtype() const {
  return embed_.scalar_type();
}

at::Device LanguageModel::device() const {
  return embed_.device();
}

at::Device LanguageModel::layer_device(int64_t layer) const {
  HEADLENS_CHECK(ShapeError, 0 <= layer && layer < layer_count(),
                 "[layer_device] layer, expected 0 to {}, got {}", layer_count() - 1, layer);
  return block_devices_[static_cast<size_t>(layer)];
}

std::vector<at::Device> LanguageModel::devices() const {
  std::vector<at::Device> all = {device()};
  all.insert(all.end(), block_devices_.begin(), block_devices_.end());
  all.push_back(lm_head_.device());
  std::vector<at::Device> distinct;
  for (const at::Device& d : all) {
    if (std::find(distinct.begin(), distinct.end(), d) == distinct.end()) distinct.push_back(d);
  }
  return distinct;
}

/// Tied and shared tensors once.
std::vector<Tensor> LanguageModel::distinct_weights() const {
  std::vector<Tensor> all = {embed_, final_norm_.weight(), lm_head_};
  for (const Tensor& tensor : {position_embed_, final_norm_.bias()}) {
    if (tensor.defined()) all.push_back(tensor);
  }
  for (const auto& block : blocks_) {
    const std::vector<Tensor> more = block->weights();
    all.insert(all.end(), more.begin(), more.end());
  }
  std::set<const void*> seen;
  std::erase_if(
      all, [&](const Tensor& tensor) { return !seen.insert(tensor.unsafeGetTensorImpl()).second; });
  return all;
}

int64_t LanguageModel::weight_bytes() const {
  int64_t bytes = 0;
  for (const Tensor& tensor : distinct_weights()) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

int64_t LanguageModel::parameter_count() const {
  int64_t count = 0;
  for (const Tensor& tensor : distinct_weights()) count += tensor.numel();
  const bool copied = config_.tied_embeddings && !lm_head_.is_same(embed_);  // on another device
  return copied ? count - lm_head_.numel() : count;
}

void check_forward_inputs(const ModelConfig& config, const Tensor& ids,
                          const Tensor& logit_positions) {
  check_ids(ids, config.vocab_size);
  if (logit_positions.defined()) check_positions(logit_positions, ids.size(0), ids.size(1));
}

Tensor LanguageModel::forward(const Tensor& ids, const ForwardOptions& options) const {
  if (!options.inputs_checked) check_forward_inputs(config_, ids, options.logit_positions);
  Prompt prompt;
  prompt.ids_checked = true;
  prompt.first = take_first(options.first, options.state, ids);
  if (options.state != nullptr) prompt.start = options.state->position;
  if (prompt.first.defined()) prompt.first = prompt.first.to(device());
  Tensor resid = embed(ids, options.tap, prompt);
  prompt.embedding = prompt_of(resid).embedding;
  resid = run_layers(resid, 0, layer_count(), options.tap, options.state, prompt);
  if (options.logit_positions.defined()) resid = take_positions(resid, options.logit_positions);
  return unembed(resid, options.tap);
}

Tensor LanguageModel::embed(const Tensor& ids, Tap* tap, const Prompt& prompt) const {
  if (!prompt.ids_checked) check_ids(ids, config_.vocab_size);
  const LayerTap whole(tap, kWholeModel);
  Tensor embedded = at::embedding(embed_, moved(ids, device()));
  embedded = whole(Site::Embed, scaled(embedded, config_.embed_scale));
  if (position_embed_.defined()) {
    const int64_t end = prompt.start + ids.size(1);
    HEADLENS_CHECK(ShapeError, end <= config_.max_position,
                   "[forward] positions, expected at most the {} that were learned, got {}",
                   config_.max_position, end);
    const Tensor places = prompt.places(ids.size(1), device()).expand(ids.sizes());
    embedded = embedded + whole(Site::PosEmbed, at::embedding(position_embed_, places));
  }
  return config_.residual_in_fp32 ? at_least_float32(embedded) : embedded;
}

Prompt LanguageModel::prompt_of(const Tensor& first_residual) const {
  Prompt prompt;
  for (const LayerSpec& layer : config_.layers) {
    if (layer.wiring == Wiring::SharedBlock) prompt.embedding = first_residual;
  }
  return prompt;
}

Tensor LanguageModel::run_layers(Tensor resid, int64_t from_layer, int64_t to_layer, Tap* tap,
                                 ModelState* state, const Prompt& prompt) const {
  HEADLENS_CHECK(ShapeError, 0 <= from_layer && from_layer <= to_layer && to_layer <= layer_count(),
                 "[run_layers] layers, expected a range within 0 to {}, got {} to {}",
                 layer_count(), from_layer, to_layer);
  HEADLENS_CHECK(ShapeError, resid.dim() == 3 && resid.size(-1) == config_.d_model,
                 "[run_layers] residual, expected [batch, pos, {}], got {}", config_.d_model,
                 shape_string(resid.sizes()));
  prepare_state(state, blocks_.size(), resid.size(0));
  const Prompt seen = seen_by_layers(prompt, state);
  for (int64_t i = from_layer; i < to_layer; ++i) {
    const auto layer = static_cast<size_t>(i);
    LayerState* layer_state = state != nullptr ? &state->layers[layer] : nullptr;
    const at::Device device = block_devices_[layer];
    resid =
        blocks_[layer]->forward(resid.to(device), LayerTap(tap, i), layer_state, seen.on(device));
  }
  const bool ran_last = to_layer == layer_count() && (from_layer < to_layer || blocks_.empty());
  if (state != nullptr && ran_last) {
    state->position += resid.size(1);
  }
  return resid;
}

Tensor LanguageModel::run_to_end(const Tensor& resid, int64_t from_layer, const Tensor& positions,
                                 Tap* tap, ModelState* state, const Prompt& prompt) const {
  const int64_t last = layer_count() - 1;
  const Prompt seen = seen_by_layers(prompt, state);
  const bool all = from_layer > last || resid.dim() != 3 || positions.size(1) >= resid.size(1);
  if (all || wants_any(tap, last)) {
    return take_positions(run_layers(resid, from_layer, layer_count(), tap, state, seen),
                          positions);
  }
  const Tensor entering = run_layers(resid, from_layer, last, tap, state, seen);
  const auto layer = static_cast<size_t>(last);
  const at::Device device = block_devices_[layer];
  LayerState* layer_state = state != nullptr ? &state->layers[layer] : nullptr;
  Tensor leaving = blocks_[layer]->forward_at(entering.to(device), moved(positions, device),
                                              layer_state, seen.on(device));
  if (state != nullptr) state->position += resid.size(1);
  return leaving;
}

Tensor LanguageModel::unembed(const Tensor& resid, Tap* tap) const {
  HEADLENS_CHECK(ShapeError, resid.dim() >= 1 && resid.size(-1) == config_.d_model,
                 "[unembed] residual, expected [.., {}], got {}", config_.d_model,
                 shape_string(resid.sizes()));
  const LayerTap whole(tap, kWholeModel);
  const Tensor x = final_norm_.forward(resid.to(lm_head_.device()), whole, Site::FinalScale,
                                       Site::FinalNormalized);
  Tensor logits = scaled(at::linear(x, lm_head_), config_.logit_scale);
  if (config_.logit_softcap > 0) {
    logits = (logits / config_.logit_softcap).tanh() * config_.logit_softcap;
  }
  return whole(Site::Logits, logits);
}

Tensor LanguageModel::finish_layer(int64_t layer, const Tensor& resid, const Tensor& z) const {
  HEADLENS_CHECK(ShapeError, 0 <= layer && layer < layer_count(),
                 "[finish_layer] layer, expected 0 to {}, got {}", layer_count() - 1, layer);
  HEADLENS_CHECK(ShapeError, resid.dim() == 3 && resid.size(-1) == config_.d_model,
                 "[finish_layer] residual, expected [batch, pos, {}], got {}", config_.d_model,
                 shape_string(resid.sizes()));
  const at::Device where = layer_device(layer);
  return blocks_[static_cast<size_t>(layer)]->finish(resid.to(where), z.to(where));
}

}  // namespace headlens
