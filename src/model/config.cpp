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

int64_t head_count(const LayerSpec& layer) {
  return layer.mixer ? std::visit(HeadsOf(), *layer.mixer) : 0;
}

int64_t head_width(const LayerSpec& layer) {
  return layer.mixer ? std::visit(WidthOf(), *layer.mixer) : 0;
}

}  // namespace headlens
