// headlens/hooks: interventions on heads, named by (layer, head).
#include "headlens/hooks/interventions.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/check.h"
#include "headlens/hooks/reducers.h"
#include "hooks/head_outputs.h"

namespace headlens {
namespace {

const LayerSpec& checked_layer(const ModelConfig& config, int64_t layer) {
  const int64_t count = std::ssize(config.layers);
  HEADLENS_CHECK(HookError, 0 <= layer && layer < count, "[ablate] layer, expected 0..{}, got {}",
                 count - 1, layer);
  const LayerSpec& spec = config.layers[static_cast<size_t>(layer)];
  HEADLENS_CHECK(HookError, head_count(spec) > 0,
                 "[ablate] layer, expected one with heads, got {} (MLP only)", layer);
  return spec;
}

/// bool [variant, head] on the CPU.
Tensor mask_of_cuts(const VariantCuts& cuts, int64_t heads, bool keep) {
  Tensor mask = at::zeros({std::ssize(cuts.heads), heads}, at::kBool);
  for (int64_t v = 0; v < mask.size(0); ++v) {
    Tensor row = mask[v];
    const HeadList& named = cuts.heads[static_cast<size_t>(v)];
    for (const HeadGroup& group : named) row.slice(0, group.first, group.last + 1).fill_(true);
    if (keep && !named.empty()) row.logical_not_();
  }
  return mask;
}

void check_cuts(const ModelConfig& config, const std::vector<VariantCuts>& cuts) {
  std::set<int64_t> seen;
  for (const VariantCuts& of_layer : cuts) {
    checked_layer(config, of_layer.layer);
    HEADLENS_CHECK(HookError, seen.insert(of_layer.layer).second,
                   "[ablate] layer {}, expected once, got twice", of_layer.layer);
    HEADLENS_CHECK(HookError, of_layer.heads.size() == cuts.front().heads.size(),
                   "[ablate] variants of layer {}, expected {}, got {}", of_layer.layer,
                   cuts.front().heads.size(), of_layer.heads.size());
    for (const HeadList& heads : of_layer.heads) {
      check_heads(config, heads);
      for (const HeadGroup& group : heads) {
        HEADLENS_CHECK(HookError, group.layer == of_layer.layer,
                       "[ablate] layer of a head, expected {}, got {}", of_layer.layer,
                       group.layer);
      }
    }
  }
}

/// One number in the heads of `mask` [variant, head]: a few fills of a copy are less work than a
/// choice at every place of outputs [batch, pos, head, width].
Tensor put_in_heads(const Tensor& outputs, const Tensor& mask, const Tensor& number) {
  const int64_t rows = outputs.size(0) / mask.size(0);
  Tensor out = outputs.clone();
  const auto cuts = mask.accessor<bool, 2>();
  for (int64_t v = 0; v < mask.size(0); ++v) {
    const Tensor own = out.narrow(0, v * rows, rows);
    for (int64_t first = 0, end = 0; first < mask.size(1); first = end) {
      for (end = first + 1; end < mask.size(1) && cuts[v][end] == cuts[v][first];) ++end;
      if (cuts[v][first]) own.narrow(2, first, end - first).fill_(number.reshape({}));
    }
  }
  return out;
}

TapPoint point_of(const HeadBank& bank, int64_t layer, Placement placement) {
  if (bank.kind == LayerKind::Attention) return {Site::Z, layer};
  const bool pre_norm = placement == Placement::PreNorm && bank.kind != LayerKind::Mamba1;
  return {pre_norm ? Site::SsmOut : Site::MixerZ, layer};
}

}  // namespace

std::vector<TapPoint> head_output_points(const ModelConfig& config, int64_t layer,
                                         Placement placement) {
  std::vector<TapPoint> points;
  for (const HeadBank& bank : head_banks(checked_layer(config, layer))) {
    points.push_back(point_of(bank, layer, placement));
  }
  return points;
}

TapPoint head_output_point(const ModelConfig& config, int64_t layer, int64_t head,
                           Placement placement) {
  check_heads(config, {HeadRef{layer, head}});
  return point_of(bank_of(checked_layer(config, layer), head), layer, placement);
}

TapPoint head_output_point(const ModelConfig& config, int64_t layer, Placement placement) {
  const std::vector<TapPoint> points = head_output_points(config, layer, placement);
  HEADLENS_CHECK(HookError, points.size() == 1,
                 "[ablate] layer {}, expected one mixer, got {} ({})", layer, points.size(),
                 layer_kind_name(checked_layer(config, layer)));
  return points.front();
}

void check_heads(const ModelConfig& config, const std::vector<HeadGroup>& heads) {
  for (const HeadGroup& group : heads) {
    const int64_t count = head_count(checked_layer(config, group.layer));
    HEADLENS_CHECK(HookError, 0 <= group.first && group.first <= group.last && group.last < count,
                   "[ablate] head, expected 0..{} in layer {}, got {}", count - 1, group.layer,
                   group.first == group.last ? fmt::format("{}", group.first)
                                             : fmt::format("{}..{}", group.first, group.last));
  }
}

std::vector<HeadGroup> other_heads(const ModelConfig& config, const std::vector<HeadGroup>& heads) {
  check_heads(config, heads);
  std::vector<HeadGroup> others;
  for (const VariantCuts& cuts : cuts_of(heads)) {
    const int64_t count = head_count(config.layers[static_cast<size_t>(cuts.layer)]);
    const Tensor row = mask_of_cuts(cuts, count, /*keep=*/true)[0];
    const bool* other = row.const_data_ptr<bool>();
    for (int64_t h = 0; h < count; ++h) {
      if (!other[h]) continue;
      const bool goes_on = h > 0 && other[h - 1];
      if (goes_on) {
        others.back().last = h;
      } else {
        others.push_back({cuts.layer, h, h});
      }
    }
  }
  return others;
}

std::vector<VariantCuts> cuts_of(const HeadList& heads) {
  std::map<int64_t, HeadList> by_layer;
  for (const HeadGroup& group : heads) by_layer[group.layer].push_back(group);
  std::vector<VariantCuts> cuts;
  for (auto& [layer, own] : by_layer) cuts.push_back({layer, {std::move(own)}});
  return cuts;
}

HeadIntervention::HeadIntervention(const ModelConfig& config, const std::vector<VariantCuts>& cuts,
                                   HeadReplacement replacement, HeadCutOptions options)
    : replacement_(std::move(replacement)), options_(std::move(options)) {
  check_cuts(config, cuts);
  HEADLENS_CHECK(HookError, replacement_ != nullptr,
                 "[ablate] replacement, expected a function, got none");
  bool any = false;
  for (const VariantCuts& of_layer : cuts) {
    const LayerSpec& spec = config.layers[static_cast<size_t>(of_layer.layer)];
    const Tensor mask = mask_of_cuts(of_layer, head_count(spec), options_.keep);
    for (const HeadBank& bank : head_banks(spec)) {
      const Tensor own = mask.narrow(1, bank.first, bank.count);
      const int64_t heads_cut = own.sum().item<int64_t>();
      if (heads_cut == 0) continue;
      banks_[point_of(bank, of_layer.layer, options_.placement)] = {own, heads_cut};
      any = true;
    }
  }
  HEADLENS_CHECK(HookError, any, "[ablate] heads to cut, expected at least one, got none");
}

bool HeadIntervention::wants(TapPoint point) const {
  return banks_.contains(point);
}

/// bool, broadcasts to [batch, pos, head, width]
Tensor HeadIntervention::covered(const Bank& bank, const Tensor& outputs) const {
  const int64_t batch = outputs.size(0), pos = outputs.size(1), variants = bank.mask.size(0);
  HEADLENS_CHECK(ShapeError, batch % variants == 0,
                 "[ablate] batch, expected a multiple of the {} variants, got {}", variants, batch);
  const int64_t rows = batch / variants;
  Tensor heads = bank.mask.repeat_interleave(rows, 0).view({batch, 1, -1, 1});
  if (!options_.positions.defined()) return heads;
  Tensor where = options_.positions.to(at::kCPU, at::kBool);
  const bool fits = where.dim() >= 1 && where.dim() <= 2 && where.size(-1) == pos &&
                    (where.dim() == 1 || where.size(0) == rows || where.size(0) == batch);
  HEADLENS_CHECK(ShapeError, fits,
                 "[ablate] positions, expected [pos={}] or [batch={}, pos={}], got {}", pos, rows,
                 pos, shape_string(where.sizes()));
  if (where.dim() == 2 && where.size(0) != batch) where = where.repeat({variants, 1});
  return heads.logical_and(where.view({-1, pos, 1, 1}));
}

Tensor HeadIntervention::visit(TapPoint point, Tensor value) {
  Bank& bank = banks_.at(point);
  const Tensor outputs = as_heads(value);
  const Tensor where = covered(bank, outputs);
  ++bank.fired;
  bank.touched += where.sum().item<int64_t>() * (outputs.size(1) / where.size(1));
  const Tensor put = replacement_(outputs, point).to(outputs.options());
  if (put.numel() == 1 && outputs.is_cpu() && !options_.positions.defined()) {
    return put_in_heads(outputs, bank.mask, put).view_as(value);
  }
  return at::where(where.to(outputs.device()), put, outputs).view_as(value);
}

void HeadIntervention::check_touched() const {
  for (const auto& [point, bank] : banks_) check_one_touched(point, bank.fired, bank.touched);
}

void HeadIntervention::reset() {
  for (auto& [point, bank] : banks_) bank.fired = bank.touched = 0;
}

InterventionPtr zero_heads(const ModelConfig& config, const HeadList& heads,
                           const HeadCutOptions& options) {
  return zero_variants(config, cuts_of(heads), options);
}

InterventionPtr zero_variants(const ModelConfig& config, const std::vector<VariantCuts>& cuts,
                              const HeadCutOptions& options) {
  const auto zero = [](const Tensor& outputs, TapPoint) {
    return at::zeros({1}, outputs.options());
  };
  return std::make_shared<HeadIntervention>(config, cuts, zero, options);
}

InterventionPtr scale_heads(const ModelConfig& config, const HeadList& heads, double factor,
                            const HeadCutOptions& options) {
  const auto scale = [factor](const Tensor& outputs, TapPoint) { return outputs * factor; };
  return std::make_shared<HeadIntervention>(config, cuts_of(heads), scale, options);
}

InterventionPtr replace_heads(const ModelConfig& config, const HeadList& heads,
                              std::map<int64_t, Tensor> outputs, const HeadCutOptions& options) {
  HeadOutputs at_points;
  for (const HeadGroup& group : heads) {
    const auto given = outputs.find(group.layer);
    HEADLENS_CHECK(HookError, given != outputs.end() && given->second.defined(),
                   "[ablate] outputs to put in layer {}, expected a tensor, got none", group.layer);
    at_points[head_output_point(config, group.layer, options.placement)] = given->second;
  }
  return replace_heads(config, heads, std::move(at_points), options);
}

InterventionPtr replace_heads(const ModelConfig& config, const HeadList& heads, HeadOutputs outputs,
                              const HeadCutOptions& options) {
  const auto put = [outputs](const Tensor& own, TapPoint point) {
    return fit_outputs(outputs.at(point), own, point.layer);
  };
  auto cut = std::make_shared<HeadIntervention>(config, cuts_of(heads), put, options);
  for (const VariantCuts& cuts : cuts_of(heads)) {
    for (const TapPoint point : head_output_points(config, cuts.layer, options.placement)) {
      const auto given = outputs.find(point);
      HEADLENS_CHECK(
          HookError, !cut->wants(point) || (given != outputs.end() && given->second.defined()),
          "[ablate] outputs to put in {}, expected a tensor, got none", site_name(point));
    }
  }
  return cut;
}

InterventionPtr resample_heads(const ModelConfig& config, const HeadList& heads, Tensor permutation,
                               const HeadCutOptions& options) {
  const bool is_index = permutation.defined() && permutation.dim() == 1 &&
                        permutation.scalar_type() == at::kLong && permutation.numel() > 0;
  HEADLENS_CHECK(ShapeError, is_index, "[ablate] permutation, expected int64 [batch], got another");
  const int64_t rows = permutation.numel();
  const int64_t low = permutation.min().item<int64_t>(), high = permutation.max().item<int64_t>();
  HEADLENS_CHECK(ShapeError, low >= 0 && high < rows,
                 "[ablate] rows of the permutation, expected 0..{}, got {}..{}", rows - 1, low,
                 high);
  const auto other_row = [permutation = std::move(permutation)](const Tensor& own, TapPoint) {
    HEADLENS_CHECK(ShapeError, own.size(0) == permutation.numel(),
                   "[ablate] permutation, expected one row each of the batch {}, got {}",
                   own.size(0), permutation.numel());
    return own.index_select(0, permutation.to(own.device()));
  };
  return std::make_shared<HeadIntervention>(config, cuts_of(heads), other_row, options);
}

}  // namespace headlens
