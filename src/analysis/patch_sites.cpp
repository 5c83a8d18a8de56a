// headlens/analysis: where a site of activation patching is in a model, and the taps that patch it.
#include "analysis/patch_sites.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/check.h"
#include "headlens/model/head_map.h"

namespace headlens {
namespace {

bool has_heads(PatchSite site) {
  return site == PatchSite::Z || site == PatchSite::Pattern || site == PatchSite::Map ||
         site == PatchSite::State;
}

/// Has a mixer of this kind the site?
bool takes(PatchSite site, LayerKind kind) {
  const bool attention = kind == LayerKind::Attention;
  if (site == PatchSite::Pattern) return attention;
  return (site != PatchSite::Map && site != PatchSite::State) || !attention;
}

Site site_of(PatchSite site, LayerKind kind) {
  const bool attention = kind == LayerKind::Attention;
  if (site == PatchSite::MixerOut) return attention ? Site::AttnOut : Site::MixerOut;
  if (site == PatchSite::Pattern) return Site::Pattern;
  return site == PatchSite::Map ? Site::Map : Site::Y;
}

std::vector<PatchPlace> mixer_places(const ModelConfig& config, int64_t layer,
                                     const PatchOptions& options,
                                     const std::vector<HeadId>& heads) {
  const std::vector<HeadBank> banks = head_banks(config.layers[static_cast<size_t>(layer)]);
  std::vector<TapPoint> cuts;
  if (!banks.empty()) cuts = head_output_points(config, layer, options.placement);
  std::vector<PatchPlace> places;
  for (size_t b = 0; b < banks.size(); ++b) {
    const HeadBank& bank = banks[b];
    if (!takes(options.site, bank.kind)) continue;
    const bool z = options.site == PatchSite::Z;
    PatchPlace place{z ? cuts[b] : TapPoint{site_of(options.site, bank.kind), layer}, bank.kind,
                     layer_kind_name(bank.kind), bank.first, 0};
    if (has_heads(options.site)) {
      place.head_count = bank.count;
      for (const HeadId& head : heads) {
        const bool own =
            head.layer == layer && head.first >= bank.first && head.last < bank.first + bank.count;
        if (own) place.heads.push_back(head);
      }
      if (place.heads.empty()) continue;
    }
    places.push_back(std::move(place));
  }
  return places;
}

void check_options(const ModelConfig& config, const PatchOptions& options) {
  HEADLENS_CHECK(UsageError, has_heads(options.site) || options.heads.empty(),
                 "[patch] heads, expected none at site {}, got some",
                 patch_site_name(options.site));
  std::vector<HeadGroup> groups;
  for (const HeadId& head : options.heads) groups.push_back({head.layer, head.first, head.last});
  check_heads(config, groups);
  for (const HeadId& head : options.heads) {
    const HeadBank bank = bank_of(config.layers[static_cast<size_t>(head.layer)], head.first);
    HEADLENS_CHECK(HookError, takes(options.site, bank.kind) && head.last < bank.first + bank.count,
                   "[patch] head {}.{}, expected one of {} for site {}, got one of {}", head.layer,
                   head.first,
                   options.site == PatchSite::Pattern ? "an attention mixer"
                   : options.site == PatchSite::Z     ? "one mixer"
                                                      : "a state-space mixer",
                   patch_site_name(options.site),
                   takes(options.site, bank.kind) ? "two mixers" : layer_kind_name(bank.kind));
  }
  const int64_t last = std::ssize(config.layers) - 1;
  for (const int64_t layer : options.layers) {
    HEADLENS_CHECK(HookError, layer >= 0 && layer <= last,
                   "[patch] layer, expected 0 to {}, got {}", last, layer);
  }
}

/// [variant * row, ..] as [variant, row, ..]
Tensor by_variant(const Tensor& x, int64_t rows) {
  return x.unflatten(0, {x.size(0) / rows, rows});
}

Tensor at_heads(const Tensor& mask, const Tensor& value) {
  const Tensor own = mask.to(value.device());
  return value.dim() == 4 ? own.unsqueeze(-1) : own;  // Mamba-1 and the residual have no width
}

}  // namespace

const char* patch_site_name(PatchSite site) {
  switch (site) {
    case PatchSite::Resid:
      return "resid";
    case PatchSite::MixerOut:
      return "attn_out";
    case PatchSite::MlpOut:
      return "mlp_out";
    case PatchSite::Z:
      return "z";
    case PatchSite::Pattern:
      return "pattern";
    case PatchSite::Map:
      return "map";
    case PatchSite::State:
      break;
  }
  return "state";
}

std::map<int64_t, std::vector<PatchPlace>> patch_places(const ModelConfig& config,
                                                        const PatchOptions& options) {
  check_options(config, options);
  const std::vector<HeadId> heads =
      options.heads.empty() ? all_heads(config, options.mamba1_groups) : options.heads;
  std::map<int64_t, std::vector<PatchPlace>> places;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    const auto& chosen = options.layers;
    if (!chosen.empty() && std::find(chosen.begin(), chosen.end(), layer) == chosen.end()) continue;
    std::vector<PatchPlace> own;
    if (options.site == PatchSite::Resid) {
      own.push_back({{Site::ResidPre, layer}, LayerKind::None, "residual"});
    } else if (options.site == PatchSite::MlpOut) {
      const bool has_mlp = config.layers[static_cast<size_t>(layer)].mlp.has_value();
      if (has_mlp) own.push_back({{Site::MlpOut, layer}, LayerKind::None, "mlp"});
    } else {
      own = mixer_places(config, layer, options, heads);
    }
    if (!own.empty()) places[layer] = std::move(own);
  }
  HEADLENS_CHECK(UsageError, !places.empty(),
                 "[patch] site {}, expected a layer that has it, got none",
                 patch_site_name(options.site));
  return places;
}

std::vector<TapPoint> kept_points(const PatchPlace& place, PatchSite site) {
  if (site != PatchSite::State) return {place.point};
  std::vector<TapPoint> points;
  for (const Site input : {Site::SsmInput, Site::A, Site::B, Site::C}) {
    points.push_back({input, place.point.layer});
  }
  if (place.kind != LayerKind::DiscreteMamba2) points.push_back({Site::Dt, place.point.layer});
  return points;
}

Tensor PatchTensor::visit(TapPoint, Tensor value) {
  const int64_t rows = donor_.size(0);
  const Tensor own = by_variant(value, rows);
  const Tensor mask = by_variant(at_heads(mask_, value), rows);
  return at::where(mask, donor_.to(value.options()).unsqueeze(0), own).flatten(0, 1);
}

void PatchRows::visit_map(TapPoint, HeadMap& map) {
  MapEdit edit;
  const Tensor heads = mask_.flatten(0, 1).any(0).nonzero().flatten().contiguous();
  edit.heads.assign(heads.data_ptr<int64_t>(), heads.data_ptr<int64_t>() + heads.numel());
  edit.rows = mask_.any(-1).to(map.device());
  edit.custom = [donor = donor_, mask = mask_](const Tensor& rows, const MapBlock& block) {
    const Tensor head = at::tensor(block.heads, block.rows.options()).view({1, -1, 1});
    const Tensor row = block.rows.unsqueeze(1);  // [batch, 1, row]
    const Tensor batch = at::arange(row.size(0), row.options()).view({-1, 1, 1});
    const Tensor taken = donor.index({batch.remainder(donor.size(0)), head, row});
    const Tensor chosen = mask.to(rows.device()).index({batch, row, head});
    return at::where(chosen.unsqueeze(-1), taken.to(rows.options()), rows);
  };
  map.edit(std::move(edit));
}

Tensor PatchSum::visit(TapPoint, Tensor value) {
  return value + change_.to(value.options()) * at_heads(mask_, value);
}

}  // namespace headlens
