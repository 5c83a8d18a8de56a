// headlens/model: one block of the residual stream.
#include "headlens/model/block.h"

#include <ATen/ATen.h>

#include "core/check.h"
#include "model/graft_tap.h"
#include "model/scaled.h"

namespace headlens {
namespace {

void append(std::vector<Tensor>& all, const std::vector<Tensor>& more) {
  for (const Tensor& tensor : more) {
    if (tensor.defined()) all.push_back(tensor);
  }
}

WeightScope layer_scope(const WeightScope& root, const TensorNames& names, int64_t index) {
  return root.scope(fmt::format(fmt::runtime(names.layer), index));
}

/// x [batch, pos, width] at positions [batch, n] -> [batch, n, width]
Tensor take_positions(const Tensor& x, const Tensor& positions) {
  return x.gather(1, positions.unsqueeze(-1).expand({-1, -1, x.size(-1)}));
}

bool has_pre_norm(Wiring wiring) {
  return wiring != Wiring::PostNorm;
}

bool has_post_norm(Wiring wiring) {
  return wiring == Wiring::PostNorm || wiring == Wiring::SandwichNorm;
}

}  // namespace

Block::Block(const ModelConfig& config, int64_t index, const TensorNames& names,
             const WeightScope& root)
    : spec_(config.layers[static_cast<size_t>(index)]) {
  const int64_t d_model = config.d_model;
  const WeightScope weights = layer_scope(root, names, index);
  const bool shared = spec_.wiring == Wiring::SharedBlock;
  const WeightScope own = shared ? weights.scope("mamba_decoder") : weights;
  const auto read_norm = [&](const WeightScope& scope, const std::string& name) {
    return Norm(scope.scope(name), d_model, config.norm, config.norm_eps);
  };
  const auto make_mixer = [&]<typename Spec>(const Spec& mixer) -> Mixer {
    if constexpr (std::is_same_v<Spec, AttentionSpec>) {
      return Attention(mixer, d_model, config.norm_eps, names, own.scope(names.attention.scope));
    } else if constexpr (std::is_same_v<Spec, Mamba1Spec>) {
      return Mamba1(mixer, d_model, own.scope(names.mixer));
    } else if constexpr (std::is_same_v<Spec, Mamba2Spec>) {
      return Mamba2(mixer, d_model, own.scope(names.mixer));
    } else {
      return DiscreteMamba2(mixer, d_model, own.scope(names.mixer));
    }
  };
  if (spec_.mixer) {
    mixer_ = std::visit(make_mixer, *spec_.mixer);
    if (shared) norm_mixer_ = read_norm(own, names.norm1);
    if (!shared && has_pre_norm(spec_.wiring)) norm1_ = read_norm(own, names.norm1);
    if (has_post_norm(spec_.wiring)) norm1_post_ = read_norm(own, names.norm1_post);
  }
  if (shared) {
    shared_out_ = Linear(weights.scope("linear"), d_model, d_model, false);
    read_shared(config, names, root);
    return;
  }
  if (spec_.attention) {
    attention_.emplace(*spec_.attention, d_model, config.norm_eps, names,
                       weights.scope(names.attention.scope));
  }
  if (!spec_.mlp) return;
  if (has_pre_norm(spec_.wiring)) norm2_ = read_norm(weights, names.norm2);
  if (has_post_norm(spec_.wiring)) norm2_post_ = read_norm(weights, names.norm2_post);
  mlp_ = Mlp(*spec_.mlp, d_model, names, weights.scope(names.mlp.scope));
}

/// Zamba2: a Transformer block whose weights several layers share; each use has its adapters and
/// its linear.
void Block::read_shared(const ModelConfig& config, const TensorNames& names,
                        const WeightScope& root) {
  HEADLENS_CHECK(ConfigError, spec_.attention && spec_.mlp && spec_.mixer,
                 "[block] a shared block, expected attention, an MLP and a mixer, got less");
  const WeightScope shared =
      layer_scope(root, names, spec_.shared_from).scope("shared_transformer");
  const int64_t d_model = config.d_model, use = spec_.shared_use;
  norm1_ = Norm(shared.scope(names.norm1), spec_.attention->d_in, config.norm, config.norm_eps);
  attention_.emplace(*spec_.attention, d_model, config.norm_eps, names,
                     shared.scope(names.attention.scope), use);
  norm2_ = Norm(shared.scope(names.norm2), d_model, config.norm, config.norm_eps);
  mlp_ = Mlp(*spec_.mlp, d_model, names, shared.scope(names.mlp.scope), use);
}

Tensor Block::forward(Tensor resid, const LayerTap& tap, LayerState* state,
                      const Prompt& prompt) const {
  resid = tap(Site::ResidPre, resid);
  switch (spec_.wiring) {
    case Wiring::Sequential:
    case Wiring::PostNorm:
    case Wiring::SandwichNorm:
      resid = sequential(std::move(resid), tap, state, prompt);
      break;
    case Wiring::Parallel:
      resid = parallel(resid, tap, state, prompt);
      break;
    case Wiring::ParallelMixers:
      resid = parallel_mixers(std::move(resid), tap, state, prompt);
      break;
    case Wiring::SharedBlock:
      resid = shared_block(resid, tap, state, prompt);
      break;
  }
  return tap(Site::ResidPost, resid);
}

Tensor Block::sequential(Tensor resid, const LayerTap& tap, LayerState* state,
                         const Prompt& prompt) const {
  if (mixer_) {
    const Tensor x = has_pre_norm(spec_.wiring)
                         ? norm1_.forward(resid, tap, Site::Ln1Scale, Site::Ln1Normalized)
                         : resid;
    const Tensor written = after_mixer(mixed(resid, x, tap, state, prompt), tap);
    if (mlp_ && has_pre_norm(spec_.wiring) && !tap.wants(Site::ResidMid)) {
      const AddedNorm mid = norm2_.add(resid, written, tap, Site::Ln2Scale, Site::Ln2Normalized);
      return mid.sum + run_normed_mlp(mid.normed, tap);
    }
    resid = resid + written;
  }
  if (mixer_ && mlp_) resid = tap(Site::ResidMid, resid);
  return mlp_ ? resid + run_mlp(resid, tap) : resid;
}

Tensor Block::parallel(const Tensor& resid, const LayerTap& tap, LayerState* state,
                       const Prompt& prompt) const {
  const Tensor x = norm1_.forward(resid, tap, Site::Ln1Scale, Site::Ln1Normalized);
  const Tensor written = after_mixer(mixed(resid, x, tap, state, prompt), tap);
  return resid + written + run_mlp(resid, tap);
}

Tensor Block::parallel_mixers(Tensor resid, const LayerTap& tap, LayerState* state,
                              const Prompt& prompt) const {
  const Tensor x = norm1_.forward(resid, tap, Site::Ln1Scale, Site::Ln1Normalized);
  const Tensor mixed = run_mixer(x, tap, state, prompt);
  const Tensor attended = tap(Site::AttnOut, attention_->forward(x, tap, state, prompt));
  resid = tap(Site::ResidMid, resid + (mixed + attended));
  return resid + run_mlp(resid, tap);
}

Tensor Block::shared_block(const Tensor& resid, const LayerTap& tap, LayerState* state,
                           const Prompt& prompt) const {
  HEADLENS_CHECK(ShapeError,
                 prompt.embedding.defined() && prompt.embedding.sizes() == resid.sizes(),
                 "[run_layers] the prompt's embedding, expected {} (this model's shared blocks "
                 "read it again), got {}",
                 shape_string(resid.sizes()),
                 prompt.embedding.defined() ? shape_string(prompt.embedding.sizes()) : "none");
  const Tensor both = at::cat({resid, prompt.embedding.to(resid.options())}, -1);
  const Tensor x = norm1_.forward(both, tap, Site::Ln1Scale, Site::Ln1Normalized);
  const Tensor attended = tap(Site::AttnOut, attention_->forward(x, tap, state, prompt));
  const Tensor shared = tap(Site::SharedOut, shared_out_(run_mlp(attended, tap)));
  const Tensor mixed =
      norm_mixer_.forward(resid + shared, tap, Site::LnMixerScale, Site::LnMixerNormalized);
  return resid + run_mixer(mixed, tap, state, prompt);
}

Tensor Block::run_mixer(const Tensor& x, const LayerTap& tap, LayerState* state,
                        const Prompt& prompt) const {
  const auto run = [&](const auto& mixer) { return mixer.forward(x, tap, state, prompt); };
  return std::visit(run, *mixer_);
}

/// The norm after the mixer, where there is one, and the site of what the residual gets. (An SSM
/// mixer shows its own output.)
Tensor Block::after_mixer(Tensor y, const LayerTap& tap) const {
  if (has_post_norm(spec_.wiring)) {
    y = norm1_post_.forward(y, tap, Site::Ln1PostScale, Site::Ln1PostNormalized);
  }
  return std::holds_alternative<Attention>(*mixer_) ? tap(Site::AttnOut, y) : y;
}

/// norm, MLP and norm: what the MLP adds to `resid`
Tensor Block::run_mlp(const Tensor& resid, const LayerTap& tap) const {
  const Tensor x = has_pre_norm(spec_.wiring)
                       ? norm2_.forward(resid, tap, Site::Ln2Scale, Site::Ln2Normalized)
                       : resid;
  return run_normed_mlp(x, tap);
}

/// The same once its input has passed the norm.
Tensor Block::run_normed_mlp(const Tensor& x, const LayerTap& tap) const {
  Tensor y = mlp_->forward(x, tap);
  if (has_post_norm(spec_.wiring)) {
    y = norm2_post_.forward(y, tap, Site::Ln2PostScale, Site::Ln2PostNormalized);
  }
  return tap(Site::MlpOut, y);
}

/// What the mixer writes, with grafted heads where there are some. They read the residual itself.
Tensor Block::mixed(const Tensor& resid, const Tensor& x, const LayerTap& tap, LayerState* state,
                    const Prompt& prompt) const {
  if (grafted_.empty()) return run_mixer(x, tap, state, prompt);
  if (state != nullptr) state->grafts.resize(grafted_.size());
  Tensor written;  // by them
  for (size_t i = 0; i < grafted_.size(); ++i) {
    LayerState* theirs = state != nullptr ? &state->grafts[i] : nullptr;
    const auto& [head, donor, donor_head] = grafted_[i];
    const Tensor one = donor->written_by(donor_head, resid, theirs, prompt);
    written = written.defined() ? written + one : one;
  }
  GraftTap seen(tap, own_heads_, written);
  const Tensor y = run_mixer(x, LayerTap(&seen, tap.layer()), state, prompt);
  return attention() != nullptr ? y + written : y;  // an SSM mixer's output has passed the tap
}

Tensor Block::written_by(int64_t head, const Tensor& resid, LayerState* state,
                         const Prompt& prompt) const {
  const Tensor x = has_pre_norm(spec_.wiring) ? norm1_(resid) : resid;
  KeptHeads kept;
  run_mixer(x, LayerTap(&kept, 0), state, prompt);
  const HeadBank bank = bank_of(spec_, head);
  const Tensor z = kept.z.flatten(2).narrow(-1, (head - bank.first) * bank.width, bank.width);
  return scaled(at::linear(z, head_output_weight(head)), bank.out_scale);
}

Block Block::with_heads(std::vector<GraftedHead> heads) const {
  Block block = *this;
  const auto output = [](const auto& mixer) { return mixer.output().weight(); };
  const Tensor weight = std::visit(output, *mixer_);
  block.own_heads_ = at::ones({weight.size(1)}, weight.options().requires_grad(false));
  for (const GraftedHead& graft : heads) {
    const HeadBank bank = bank_of(spec_, graft.head);
    block.own_heads_.narrow(0, (graft.head - bank.first) * bank.width, bank.width).zero_();
  }
  block.grafted_ = std::move(heads);
  return block;
}

Block Block::with_mixer_of(const Block& donor) const {
  Block block = *this;
  block.spec_.mixer = donor.spec_.mixer;
  block.mixer_ = donor.mixer_;
  block.norm1_ = donor.norm1_, block.norm1_post_ = donor.norm1_post_;
  block.grafted_ = donor.grafted_, block.own_heads_ = donor.own_heads_;
  return block;
}

/// What the mixers write at `positions`, from the residual and its norm: [batch, n, d_model]
Tensor Block::mixed_at(const Tensor& resid, const Tensor& x, const Tensor& positions,
                       LayerState* state, const Prompt& prompt) const {
  const LayerTap unseen(nullptr, 0);
  if (!grafted_.empty()) return take_positions(mixed(resid, x, unseen, state, prompt), positions);
  const auto attend = [&](const Attention& attention) {
    return attention.project(attention.heads_at(x, positions, state, prompt).flatten(2));
  };
  const auto* alone = std::get_if<Attention>(&*mixer_);
  const Tensor mixed = alone != nullptr
                           ? attend(*alone)
                           : take_positions(run_mixer(x, unseen, state, prompt), positions);
  return attention_ ? mixed + attend(*attention_) : mixed;
}

Tensor Block::forward_at(const Tensor& resid, const Tensor& positions, LayerState* state,
                         const Prompt& prompt) const {
  const LayerTap unseen(nullptr, 0);
  if (spec_.wiring == Wiring::SharedBlock) {  // its mixer reads what the MLP made of every position
    return take_positions(shared_block(resid, unseen, state, prompt), positions);
  }
  const Tensor entering = take_positions(resid, positions);
  Tensor mixed = entering;
  if (mixer_) {
    const bool normed = has_pre_norm(spec_.wiring);
    const Tensor x =
        normed ? norm1_.forward(resid, unseen, Site::Ln1Scale, Site::Ln1Normalized) : resid;
    mixed = entering + after_mixer(mixed_at(resid, x, positions, state, prompt), unseen);
  }
  if (!mlp_) return mixed;
  return mixed + run_mlp(spec_.wiring == Wiring::Parallel ? entering : mixed, unseen);
}

Tensor Block::finish(const Tensor& resid, const Tensor& z) const {
  HEADLENS_CHECK(ShapeError, mixer_.has_value(),
                 "[finish_layer] layer, expected one with a mixer, got an MLP only");
  HEADLENS_CHECK(ShapeError, !attention_.has_value(),
                 "[finish_layer] layer, expected one with one mixer, got two");
  HEADLENS_CHECK(ShapeError, grafted_.empty(),
                 "[finish_layer] layer, expected one with its own heads alone, got {} grafted",
                 grafted_.size());
  const auto output = [](const auto& mixer) { return mixer.output().weight(); };
  const int64_t d_inner = std::visit(output, *mixer_).size(1);
  const bool fits = z.dim() >= 3 && z.size(0) == resid.size(0) && z.size(1) == resid.size(1) &&
                    z.numel() == resid.size(0) * resid.size(1) * d_inner;
  HEADLENS_CHECK(ShapeError, fits, "[finish_layer] z, expected [{}, {}, {} in all], got {}",
                 resid.size(0), resid.size(1), d_inner, shape_string(z.sizes()));
  const LayerTap unseen(nullptr, 0);
  const auto project = [&](const auto& mixer) { return mixer.project(z.flatten(2)); };
  const Tensor written = after_mixer(std::visit(project, *mixer_), unseen);
  if (mlp_ && has_pre_norm(spec_.wiring) && spec_.wiring != Wiring::Parallel) {
    const AddedNorm mid = norm2_.add(resid, written, unseen, Site::Ln2Scale, Site::Ln2Normalized);
    return mid.sum + run_normed_mlp(mid.normed, unseen);
  }
  Tensor mixed = resid + written;
  if (!mlp_) return mixed;
  return mixed + run_mlp(spec_.wiring == Wiring::Parallel ? resid : mixed, unseen);
}

Tensor Block::head_output_weight(int64_t head) const {
  for (const HeadBank& bank : head_banks(spec_)) {
    if (head >= bank.first + bank.count) continue;
    const auto output = [](const auto& mixer) { return mixer.output().weight(); };
    const bool second = attention_ && bank.first > 0;
    const Tensor weight = second ? output(*attention_) : std::visit(output, *mixer_);
    return weight.narrow(1, (head - bank.first) * bank.width, bank.width);
  }
  return {};
}

std::vector<Tensor> Block::weights() const {
  std::vector<Tensor> all;
  for (const Norm* norm : {&norm1_, &norm1_post_, &norm2_, &norm2_post_, &norm_mixer_}) {
    append(all, {norm->weight(), norm->bias()});
  }
  if (mixer_) append(all, std::visit([](const auto& mixer) { return mixer.weights(); }, *mixer_));
  if (attention_) append(all, attention_->weights());
  if (mlp_) append(all, mlp_->weights());
  append(all, {shared_out_.weight()});
  for (const GraftedHead& graft : grafted_) append(all, graft.donor->weights());
  return all;
}

}  // namespace headlens
