// headlens/model: questions about a layer's spec.
#include "headlens/model/config.h"

namespace headlens {
namespace {

struct KindOf {
  LayerKind operator()(const AttentionSpec&) const { return LayerKind::Attention; }
  LayerKind operator()(const Mamba1Spec&) const { return LayerKind::Mamba1; }
  LayerKind operator()(const Mamba2Spec&) const { return LayerKind::Mamba2; }
  LayerKind operator()(const DiscreteMamba2Spec&) const { return LayerKind::DiscreteMamba2; }
};

struct HeadsOf {
  int64_t operator()(const AttentionSpec& spec) const { return spec.heads; }
  int64_t operator()(const Mamba1Spec& spec) const { return spec.d_inner; }
  int64_t operator()(const Mamba2Spec& spec) const { return spec.heads; }
  int64_t operator()(const DiscreteMamba2Spec& spec) const { return spec.v_heads; }
};

struct OutScaleOf {
  double operator()(const AttentionSpec& spec) const { return spec.out_scale; }
  double operator()(const Mamba2Spec& spec) const { return spec.out_scale; }
  double operator()(const auto&) const { return 1; }
};

struct WidthOf {
  int64_t operator()(const Mamba1Spec&) const { return 1; }
  int64_t operator()(const auto& spec) const { return spec.d_head; }
};

}  // namespace

LayerKind layer_kind(const LayerSpec& layer) {
  return layer.mixer ? std::visit(KindOf(), *layer.mixer) : LayerKind::None;
}

std::string layer_kind_name(LayerKind kind) {
  switch (kind) {
    case LayerKind::None:
      return "none";
    case LayerKind::Attention:
      return "attention";
    case LayerKind::Mamba1:
      return "mamba1";
    case LayerKind::Mamba2:
      return "mamba2";
    case LayerKind::DiscreteMamba2:
      return "discrete_mamba2";
  }
  return "none";
}

std::string layer_kind_name(const LayerSpec& layer) {
  std::string name;
  for (const HeadBank& bank : head_banks(layer)) {
    name += (name.empty() ? "" : "+") + layer_kind_name(bank.kind);
  }
  return name.empty() ? layer_kind_name(LayerKind::None) : name;
}

std::vector<HeadBank> head_banks(const LayerSpec& layer) {
  std::vector<HeadBank> banks;
  if (layer.mixer) {
    banks.push_back({layer_kind(layer), 0, std::visit(HeadsOf(), *layer.mixer), head_width(layer),
                     std::visit(OutScaleOf(), *layer.mixer)});
  }
  if (layer.attention) {
    const AttentionSpec& second = *layer.attention;
    const int64_t first = banks.empty() ? 0 : banks[0].count;
    banks.push_back({LayerKind::Attention, first, second.heads, second.d_head, second.out_scale});
  }
  return banks;
}

HeadBank bank_of(const LayerSpec& layer, int64_t head) {
  for (const HeadBank& bank : head_banks(layer)) {
    if (bank.first <= head && head < bank.first + bank.count) return bank;
  }
  return {};
}

int64_t head_count(const LayerSpec& layer) {
  int64_t count = 0;
  for (const HeadBank& bank : head_banks(layer)) count += bank.count;
  return count;
}

int64_t head_width(const LayerSpec& layer) {
  return layer.mixer ? std::visit(WidthOf(), *layer.mixer) : 0;
}

}  // namespace headlens
