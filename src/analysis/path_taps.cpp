// headlens/analysis: the taps of path patching: keep sites, freeze them, patch one head's output.
#include "analysis/path_taps.h"

#include <ATen/ATen.h>

#include <variant>

#include "analysis/batch_rows.h"

namespace headlens {
namespace {

/// Where q (or k) is last seen before the scores.
Site last_of(const AttentionSpec& spec, Site plain, Site normed, Site rotated) {
  if (spec.rope) return rotated;
  return spec.qk_norm != QkNorm::None ? normed : plain;
}

const AttentionSpec& attention_of(const LayerSpec& layer) {
  if (layer.attention) return *layer.attention;
  return std::get<AttentionSpec>(*layer.mixer);
}

}  // namespace

std::vector<TapPoint> MixerSitesOf::inputs() const {
  std::vector<TapPoint> all = stores;
  all.insert(all.end(), asks.begin(), asks.end());
  return all;
}

MixerSitesOf mixer_sites(const ModelConfig& config, const HeadId& head, Placement placement) {
  const LayerSpec& layer = config.layers[static_cast<size_t>(head.layer)];
  const auto at = [&](Site site) { return TapPoint{site, head.layer}; };
  MixerSitesOf sites;
  sites.bank = bank_of(layer, head.first);
  if (sites.bank.kind == LayerKind::Attention) {
    const AttentionSpec& spec = attention_of(layer);
    sites.written = at(Site::AttnOut);
    sites.stores = {at(last_of(spec, Site::K, Site::KNormed, Site::RotK)), at(Site::V)};
    sites.asks = {at(last_of(spec, Site::Q, Site::QNormed, Site::RotQ))};
    sites.outputs = {at(Site::Z)};
    return sites;
  }
  const bool discrete = sites.bank.kind == LayerKind::DiscreteMamba2;  // its decay is its dt
  sites.written = at(Site::MixerOut);
  sites.stores = {at(Site::SsmInput), at(discrete ? Site::A : Site::DtPre), at(Site::B)};
  const TapPoint point = head_output_point(config, head.layer, head.first, placement);
  sites.asks = {at(Site::C)};
  if (point.site == Site::MixerZ) sites.asks.push_back(at(Site::Gate));  // else it comes after
  const bool norm_joins_heads = sites.bank.kind == LayerKind::Mamba2;
  if (norm_joins_heads && point.site == Site::MixerZ) sites.outputs = {at(Site::SsmOut)};
  sites.outputs.push_back(point);
  return sites;
}

PatchHeads::PatchHeads(const MixerSitesOf& sites, const std::vector<HeadId>& heads,
                       SiteTensors inputs, const SiteTensors& clean)
    : variants_(std::ssize(heads)), inputs_(std::move(inputs)) {
  mask_ = at::zeros({variants_, sites.bank.count}, at::kBool);
  for (int64_t v = 0; v < variants_; ++v) {
    const HeadId& head = heads[static_cast<size_t>(v)];
    mask_[v].slice(0, head.first - sites.bank.first, head.last - sites.bank.first + 1).fill_(true);
  }
  for (const TapPoint point : sites.outputs) clean_[point] = clean.at(point);
}

Tensor PatchHeads::visit(TapPoint point, Tensor value) {
  if (inputs_.contains(point)) return repeated_rows(inputs_.at(point), variants_);
  const Tensor clean = repeated_rows(clean_.at(point), variants_);
  const int64_t rows = value.size(0) / variants_;
  Tensor own = mask_.to(value.device()).repeat_interleave(rows, 0).unsqueeze(1);
  if (value.dim() == 4) own = own.unsqueeze(-1);  // Mamba-1 has [row, pos, channel]
  return at::where(own, value, clean);
}

}  // namespace headlens
