// headlens/analysis: entropy, gather, aggregate and target mass of every head's map.
#include "headlens/analysis/map_figures.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/check.h"
#include "headlens/model/head_map.h"

namespace headlens {
namespace {

/// Where the rows and segments of a batch of prompts lie, as tensors; segment axes are padded to
/// the longest list.
struct PromptLayout {
  Tensor rows;          // [batch, 1 + segment] int64: q, then the segment ends
  Tensor query;         // [batch] double: q
  Tensor has_segment;   // [batch, segment] double 0/1
  Tensor in_segment;    // [batch, segment, key] double 0/1
  Tensor in_target;     // [batch, key] double 0/1
  Tensor has_segments;  // [batch] double 0/1
  Tensor has_target;    // [batch] double 0/1
  int64_t segments = 0;
};

PromptLayout prompt_layout(const std::vector<const PromptInfo*>& prompts, int64_t keys) {
  int64_t batch = static_cast<int64_t>(prompts.size()), segments = 0;
  for (const PromptInfo* p : prompts)
    segments = std::max<int64_t>(segments, static_cast<int64_t>(p->segments.size()));
  PromptLayout layout;
  layout.segments = segments;
  layout.rows = at::zeros({batch, 1 + segments}, at::kLong);
  layout.query = at::zeros({batch}, at::kDouble);
  layout.has_segment = at::zeros({batch, segments}, at::kDouble);
  layout.in_segment = at::zeros({batch, segments, keys}, at::kDouble);
  layout.in_target = at::zeros({batch, keys}, at::kDouble);
  layout.has_target = at::zeros({batch}, at::kDouble);
  for (int64_t b = 0; b < batch; ++b) {
    const PromptInfo& prompt = *prompts[static_cast<size_t>(b)];
    layout.rows[b].fill_(prompt.length - 1);
    layout.query[b] = static_cast<double>(prompt.length - 1);
    for (int64_t s = 0; s < static_cast<int64_t>(prompt.segments.size()); ++s) {
      const auto [start, end] = prompt.segments[static_cast<size_t>(s)];
      layout.rows[b][1 + s] = end;
      layout.has_segment[b][s] = 1;
      layout.in_segment[b][s].slice(0, start, end + 1).fill_(1);
      if (s == prompt.target_segment) layout.in_target[b].slice(0, start, end + 1).fill_(1);
    }
    layout.has_target[b] = static_cast<double>(prompt.target_segment >= 0);
  }
  layout.has_segments = (layout.has_segment.sum(1) > 0).to(at::kDouble);
  return layout;
}

PromptLayout layout_to(PromptLayout layout, at::Device device) {
  for (Tensor* t : {&layout.rows, &layout.query, &layout.has_segment, &layout.in_segment,
                    &layout.in_target, &layout.has_segments, &layout.has_target}) {
    *t = t->to(device);
  }
  return layout;
}

/// Sums over examples of each figure, [head] double on the CPU; the means are taken at the end.
struct FigureSums {
  Tensor entropy, entropy_norm, row_mass, gather, aggregate, target;
};

/// Figures of P's rows for every head of `map` in `heads`; formulas of docs/metrics.md, in double.
FigureSums figure_sums(const HeadMap& map, const PromptLayout& at_,
                       const std::vector<int64_t>& heads) {
  const Tensor raw = map.rows(at_.rows, heads).to(at::kDouble);  // [batch, head, 1 + segment, key]
  const Tensor p = normalized_rows(raw, map.is_softmax());
  const Tensor q_row = p.select(2, 0);  // [batch, head, key]
  FigureSums sums;
  const Tensor entropy = -at::xlogy(q_row, q_row).sum(-1);    // [batch, head]
  const Tensor log_keys = at::log1p(at_.query).unsqueeze(1);  // ln(q + 1); 0 for a one-token prompt
  sums.entropy = entropy.sum(0).cpu();
  sums.entropy_norm =
      at::where(log_keys > 0, entropy / log_keys, at::zeros_like(entropy)).sum(0).cpu();
  sums.row_mass = raw.select(2, 0).abs().sum(-1).sum(0).cpu();
  if (at_.segments == 0) return sums;
  const Tensor ends = at_.rows.slice(1, 1).unsqueeze(1).expand({-1, p.size(1), -1});
  const Tensor valid = at_.has_segment.unsqueeze(1);  // [batch, 1, segment]
  const Tensor count = at_.has_segment.sum(1).clamp_min(1).unsqueeze(1);
  const Tensor in_own =
      (p.slice(2, 1) * at_.in_segment.unsqueeze(1)).sum(-1);  // [batch, head, segment]
  sums.gather = ((in_own * valid).sum(-1) / count).sum(0).cpu();
  sums.aggregate = (q_row.gather(2, ends) * valid).sum(-1).sum(0).cpu();
  sums.target = (q_row * at_.in_target.unsqueeze(1)).sum(-1).sum(0).cpu();
  return sums;
}

void add(Tensor& total, const Tensor& part, int64_t first) {
  if (part.defined()) total.slice(0, first, first + part.size(0)).add_(part);
}

/// Visits the maps of the layers that have targets and adds their figures up.
class FigureTap final : public Tap {
 public:
  FigureTap(const ModelConfig& config, const std::vector<HeadId>& targets) {
    for (const HeadId& t : targets) {
      const int64_t heads = head_count(config.layers[static_cast<size_t>(t.layer)]);
      if (!sums_.contains(t.layer)) sums_[t.layer] = zeros(heads);
    }
  }
  void set_layout(PromptLayout layout) { layout_ = std::move(layout); }
  const FigureSums& sums(int64_t layer) const { return sums_.at(layer); }

  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override { return sums_.contains(point.layer); }

  void visit_map(TapPoint point, HeadMap& map) override {
    // Channels come by the thousand in Mamba-1: a slice at a time keeps memory at O(slice x rows x
    // keys).
    const int64_t per_head = map.batch() * layout_.rows.size(1) * map.keys();
    const int64_t step =
        std::clamp<int64_t>(kMaxElements / std::max<int64_t>(1, per_head), 1, map.heads());
    FigureSums& total = sums_.at(point.layer);
    for (int64_t first = 0; first < map.heads(); first += step) {
      std::vector<int64_t> heads;
      for (int64_t h = first; h < std::min(first + step, map.heads()); ++h) heads.push_back(h);
      const FigureSums part = figure_sums(map, layout_, heads);
      add(total.entropy, part.entropy, first);
      add(total.entropy_norm, part.entropy_norm, first);
      add(total.row_mass, part.row_mass, first);
      add(total.gather, part.gather, first);
      add(total.aggregate, part.aggregate, first);
      add(total.target, part.target, first);
    }
  }

 private:
  static constexpr int64_t kMaxElements = 1 << 24;
  static FigureSums zeros(int64_t heads) {
    const auto z = [heads] { return at::zeros({heads}, at::kDouble); };
    return {z(), z(), z(), z(), z(), z()};
  }
  std::map<int64_t, FigureSums> sums_;
  PromptLayout layout_;
};

/// Sums over examples of what the uniform row would score, and how many examples count.
struct UniformSums {
  double gather = 0, aggregate = 0, with_segments = 0, with_target = 0, examples = 0;
};

void add_uniform(UniformSums& sums, const PromptInfo& prompt) {
  sums.examples += 1;
  if (prompt.segments.empty()) return;
  sums.with_segments += 1;
  sums.with_target += prompt.target_segment >= 0;
  const double n = static_cast<double>(prompt.segments.size());
  for (const PromptSegment& s : prompt.segments) {
    sums.gather += static_cast<double>(s.end - s.start + 1) / static_cast<double>(s.end + 1) / n;
  }
  sums.aggregate += n / static_cast<double>(prompt.length);
}

double group_mean(const Tensor& sums, const HeadId& head, double examples) {
  return sums.slice(0, head.first, head.last + 1).mean().item<double>() / examples;
}

MapFigures figures_of(const HeadId& head, const FigureSums& sums, const UniformSums& uniform) {
  MapFigures f;
  f.entropy = group_mean(sums.entropy, head, uniform.examples);
  f.entropy_norm = group_mean(sums.entropy_norm, head, uniform.examples);
  f.row_mass = group_mean(sums.row_mass, head, uniform.examples);
  if (uniform.with_segments > 0) {
    f.gather = group_mean(sums.gather, head, uniform.with_segments);
    f.gather_uniform = uniform.gather / uniform.with_segments;
    f.aggregate = group_mean(sums.aggregate, head, uniform.with_segments);
    f.aggregate_uniform = uniform.aggregate / uniform.with_segments;
  }
  if (uniform.with_target > 0) f.target = group_mean(sums.target, head, uniform.with_target);
  return f;
}

/// The prompts of a batch alone (no choices), cut at the longest of them: [example, pos].
Tensor prompt_ids(const ObjectiveBatch& batch, const std::vector<const PromptInfo*>& prompts) {
  int64_t longest = 0;
  for (const PromptInfo* p : prompts) longest = std::max(longest, p->length);
  return batch.ids.index_select(0, at::tensor(batch.example_rows, at::kLong)).slice(1, 0, longest);
}

}  // namespace

std::vector<MapFigures> map_figures(const LanguageModel& model, const Objective& objective,
                                    const std::vector<HeadId>& targets,
                                    const std::function<void(int64_t, int64_t)>& progress) {
  c10::NoGradGuard no_grad;
  FigureTap tap(model.config(), targets);
  UniformSums uniform;
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const ObjectiveBatch& batch = objective.batch(b);
    std::vector<const PromptInfo*> prompts;
    for (int64_t example : batch.examples) {
      prompts.push_back(&objective.prompt(example));
      add_uniform(uniform, *prompts.back());
    }
    const Tensor ids = prompt_ids(batch, prompts);
    tap.set_layout(layout_to(prompt_layout(prompts, ids.size(1)), model.device()));
    model.run_layers(model.embed(ids.to(model.device()), &tap), 0, model.layer_count(), &tap);
    if (progress) progress(b + 1, objective.batch_count());
  }
  std::vector<MapFigures> figures;
  for (const HeadId& t : targets) figures.push_back(figures_of(t, tap.sums(t.layer), uniform));
  return figures;
}

}  // namespace headlens
