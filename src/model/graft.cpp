// headlens/model: layers and heads of one model in the place of another's.
#include "headlens/model/graft.h"

#include <cmath>
#include <map>
#include <utility>

#include "core/check.h"
#include "headlens/core/dtype.h"
#include "headlens/model/block.h"

namespace headlens {
namespace {

const char* wiring_name(Wiring wiring) {
  switch (wiring) {
    case Wiring::Sequential:
      return "sequential";
    case Wiring::PostNorm:
      return "post_norm";
    case Wiring::SandwichNorm:
      return "sandwich_norm";
    case Wiring::Parallel:
      return "parallel";
    case Wiring::ParallelMixers:
      return "parallel_mixers";
    case Wiring::SharedBlock:
      return "shared_block";
  }
  return "";
}

bool norms_output(Wiring wiring) {
  return wiring == Wiring::PostNorm || wiring == Wiring::SandwichNorm;
}

void check_models(const LanguageModel& recipient, const LanguageModel& donor) {
  const ModelConfig &to = recipient.config(), &from = donor.config();
  HEADLENS_CHECK(UsageError, from.d_model == to.d_model,
                 "[graft] width of the donor, expected the recipient's {}, got {}", to.d_model,
                 from.d_model);
  HEADLENS_CHECK(UsageError, from.vocab_size == to.vocab_size,
                 "[graft] vocabulary of the donor, expected the recipient's {} tokens, got {}",
                 to.vocab_size, from.vocab_size);
  HEADLENS_CHECK(UsageError, donor.dtype() == recipient.dtype(),
                 "[graft] dtype of the donor, expected the recipient's {}, got {}",
                 dtype_name(recipient.dtype()), dtype_name(donor.dtype()));
}

void check_layer(const char* whose, const LanguageModel& model, int64_t layer) {
  HEADLENS_CHECK(HookError, 0 <= layer && layer < model.layer_count(),
                 "[graft] layer of the {}, expected 0 to {}, got {}", whose,
                 model.layer_count() - 1, layer);
  const Wiring wiring = model.config().layers[static_cast<size_t>(layer)].wiring;
  HEADLENS_CHECK(UsageError, wiring != Wiring::SharedBlock,
                 "[graft] layer {} of the {}, expected one with weights of its own, got a shared "
                 "block (Zamba2), whose weights and reading of the embedding belong to its model",
                 layer, whose);
}

void check_pair(const LanguageModel& recipient, int64_t to, const LanguageModel& donor,
                int64_t from) {
  check_layer("donor", donor, from);
  check_layer("recipient", recipient, to);
  HEADLENS_CHECK(UsageError, donor.layer_device(from) == recipient.layer_device(to),
                 "[graft] device of the donor's layer {}, expected that of the recipient's layer "
                 "{}, {}, got {}",
                 from, to, recipient.layer_device(to).str(), donor.layer_device(from).str());
}

void check_one_mixer(const char* whose, const LanguageModel& model, int64_t layer) {
  const LayerSpec& spec = model.config().layers[static_cast<size_t>(layer)];
  const size_t mixers = head_banks(spec).size();
  HEADLENS_CHECK(UsageError, mixers == 1,
                 "[graft] layer {} of the {}, expected one with one mixer, got {}", layer, whose,
                 mixers == 0 ? "none" : layer_kind_name(spec));
}

void check_mixers(const LanguageModel& recipient, int64_t to, const LanguageModel& donor,
                  int64_t from) {
  check_one_mixer("donor", donor, from);
  check_one_mixer("recipient", recipient, to);
  const Wiring theirs = donor.block(from).spec().wiring, own = recipient.block(to).spec().wiring;
  HEADLENS_CHECK(UsageError, theirs == own,
                 "[graft] mixer of the donor's layer {}, expected a layer put together as the "
                 "recipient's layer {} ({}), got {}",
                 from, to, wiring_name(own), wiring_name(theirs));
}

void check_head(const char* whose, const LanguageModel& model, const HeadPlace& place) {
  check_one_mixer(whose, model, place.layer);
  const int64_t heads = head_count(model.config().layers[static_cast<size_t>(place.layer)]);
  HEADLENS_CHECK(HookError, 0 <= place.head && place.head < heads,
                 "[graft] head of the {}'s layer {}, expected 0 to {}, got {}", whose, place.layer,
                 heads - 1, place.head);
}

void check_heads(const LanguageModel& recipient, const HeadPlace& to, const LanguageModel& donor,
                 const HeadPlace& from) {
  check_head("donor", donor, from);
  check_head("recipient", recipient, to);
  const Block &theirs = donor.block(from.layer), &own = recipient.block(to.layer);
  HEADLENS_CHECK(UsageError, norms_output(theirs.spec().wiring) == norms_output(own.spec().wiring),
                 "[graft] head {}.{} of the donor, expected a layer put together as the "
                 "recipient's layer {} ({}), got {}",
                 from.layer, from.head, to.layer, wiring_name(own.spec().wiring),
                 wiring_name(theirs.spec().wiring));
  HEADLENS_CHECK(UsageError, theirs.grafted_heads().empty() && own.grafted_heads().empty(),
                 "[graft] head {}.{} into {}.{}, expected layers without grafted heads, got some",
                 from.layer, from.head, to.layer, to.head);
}

}  // namespace

LanguageModel graft_layers(const LanguageModel& recipient, const LanguageModel& donor,
                           const std::vector<LayerGraft>& grafts) {
  check_models(recipient, donor);
  LanguageModel model = recipient;
  std::map<int64_t, int64_t> taken;
  for (const LayerGraft& graft : grafts) {
    check_pair(recipient, graft.recipient, donor, graft.donor);
    HEADLENS_CHECK(UsageError, taken.emplace(graft.recipient, graft.donor).second,
                   "[graft] layer {} of the recipient, expected once, got it more often",
                   graft.recipient);
    std::shared_ptr<const Block> block = donor.block_handle(graft.donor);
    if (graft.mixer_only) {
      check_mixers(recipient, graft.recipient, donor, graft.donor);
      block = std::make_shared<const Block>(recipient.block(graft.recipient).with_mixer_of(*block));
    }
    model = model.with_block(graft.recipient, std::move(block));
  }
  return model;
}

LanguageModel graft_heads(const LanguageModel& recipient, const LanguageModel& donor,
                          const std::vector<HeadGraft>& grafts) {
  check_models(recipient, donor);
  std::map<int64_t, std::map<int64_t, GraftedHead>> by_layer;
  for (const auto& [from, to] : grafts) {
    check_pair(recipient, to.layer, donor, from.layer);
    check_heads(recipient, to, donor, from);
    const GraftedHead graft{to.head, donor.block_handle(from.layer), from.head};
    HEADLENS_CHECK(UsageError, by_layer[to.layer].emplace(to.head, graft).second,
                   "[graft] head {}.{} of the recipient, expected once, got it more often",
                   to.layer, to.head);
  }
  LanguageModel model = recipient;
  for (const auto& [layer, heads] : by_layer) {
    std::vector<GraftedHead> list;
    for (const auto& [head, graft] : heads) list.push_back(graft);
    model = model.with_block(
        layer, std::make_shared<const Block>(recipient.block(layer).with_heads(std::move(list))));
  }
  return model;
}

LanguageModel graft_attention_head(const LanguageModel& model, const HeadPlace& place,
                                   const Tensor& qkv) {
  check_layer("recipient", model, place.layer);
  check_head("recipient", model, place);
  const Block& own = model.block(place.layer);
  const HeadBank bank = bank_of(own.spec(), place.head);
  HEADLENS_CHECK(UsageError, bank.kind != LayerKind::Attention,
                 "[graft] head {}.{}, expected one of an SSM layer, got attention", place.layer,
                 place.head);
  const int64_t width = bank.width, d_model = model.config().d_model;
  HEADLENS_CHECK(UsageError, qkv.sizes() == at::IntArrayRef({3 * width, d_model}),
                 "[graft] qkv, expected {}, got {}", shape_string({3 * width, d_model}),
                 shape_string(qkv.sizes()));
  AttentionSpec spec{.heads = 1, .kv_heads = 1, .d_head = width};
  spec.scale = 1 / std::sqrt(static_cast<double>(width));
  spec.layout = QkvLayout::Fused;
  spec.out_scale = bank.out_scale;
  if (width % 2 == 0) spec.rope = RopeSpec{.theta = 10000, .rotary_dim = width, .scaling = {}};
  ModelConfig config = model.config();
  config.layers = {{spec, std::nullopt}};
  TensorNames names;
  names.norm1 = "norm";
  std::map<std::string, Tensor> weights = {
      {"norm.weight", own.mixer_norm().weight()},
      {"self_attn.qkv_proj.weight", qkv},
      {"self_attn.o_proj.weight", own.head_output_weight(place.head)}};
  if (own.mixer_norm().bias().defined()) weights["norm.bias"] = own.mixer_norm().bias();
  const auto scope =
      WeightScope::from_map(std::move(weights), model.dtype(), model.layer_device(place.layer));
  const auto head = std::make_shared<const Block>(config, 0, names, scope);
  return model.with_block(place.layer,
                          std::make_shared<const Block>(own.with_heads({{place.head, head, 0}})));
}

}  // namespace headlens
