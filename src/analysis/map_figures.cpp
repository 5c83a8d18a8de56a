// headlens/analysis: entropy, gather, aggregate and target mass of every head's map.
#include "headlens/analysis/map_figures.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>
#include <set>

#include "analysis/map_groups.h"
#include "headlens/hooks/interventions.h"
#include "headlens/model/head_map.h"

namespace headlens {
namespace {

/// Where the rows and segments of a batch of prompts lie; segment axes are padded to the longest
/// list.
struct PromptLayout {
  Tensor rows;         // [batch, 1 + segment] int64: q, then the segment ends (padding: q)
  Tensor has_segment;  // [batch, segment] double 0/1
  Tensor in_segment;   // [batch, segment, key] double 0/1
  Tensor in_target;    // [batch, key] double 0/1

  PromptLayout on(at::Device device) const {
    return {rows.to(device), has_segment.to(device), in_segment.to(device), in_target.to(device)};
  }
};

PromptLayout prompt_layout(const std::vector<const PromptInfo*>& prompts, int64_t keys) {
  const int64_t batch = std::ssize(prompts);
  int64_t segments = 0;
  for (const PromptInfo* p : prompts) segments = std::max(segments, std::ssize(p->segments));
  PromptLayout layout;
  layout.rows = at::zeros({batch, 1 + segments}, at::kLong);
  layout.has_segment = at::zeros({batch, segments}, at::kDouble);
  layout.in_segment = at::zeros({batch, segments, keys}, at::kDouble);
  layout.in_target = at::zeros({batch, keys}, at::kDouble);
  for (int64_t b = 0; b < batch; ++b) {
    const PromptInfo& prompt = *prompts[static_cast<size_t>(b)];
    layout.rows[b].fill_(prompt.length - 1);
    for (int64_t s = 0; s < std::ssize(prompt.segments); ++s) {
      const auto [start, end] = prompt.segments[static_cast<size_t>(s)];
      layout.rows[b][1 + s] = end;
      layout.has_segment[b][s] = 1;
      layout.in_segment[b][s].slice(0, start, end + 1).fill_(1);
      if (s == prompt.target_segment) layout.in_target[b].slice(0, start, end + 1).fill_(1);
    }
  }
  return layout;
}

enum Figure { kEntropy, kEntropyNorm, kRowMass, kGather, kAggregate, kTarget, kFigures };

/// Figures of P's rows, summed over the batch's examples; an example without what a figure needs
/// adds 0. Formulas of docs/metrics.md, in double: [figure, head] on the CPU.
Tensor figure_sums(const HeadMap& map, const PromptLayout& layout,
                   const std::vector<int64_t>& heads) {
  const Tensor raw = map.rows(layout.rows, heads).to(at::kDouble);  // [batch, head, row, key]
  const Tensor p = normalized_rows(raw, map.is_softmax());
  const Tensor from_query = p.select(2, 0);  // [batch, head, key]
  const Tensor from_ends = p.slice(2, 1);    // [batch, head, segment, key]
  const Tensor valid = layout.has_segment.unsqueeze(1);
  const Tensor ends = layout.rows.slice(1, 1).unsqueeze(1).expand({-1, p.size(1), -1});

  const Tensor entropy = -at::xlogy(from_query, from_query).sum(-1);  // [batch, head]
  const Tensor log_keys = layout.rows.select(1, 0).to(at::kDouble).log1p().unsqueeze(1);
  const Tensor entropy_norm = (entropy / log_keys).masked_fill(log_keys == 0, 0);
  const Tensor own = at::einsum("bhsk,bsk->bhs", {from_ends, layout.in_segment});
  const Tensor gather = (own * valid).sum(-1) / valid.sum(-1).clamp_min(1);
  const Tensor aggregate = (from_query.gather(2, ends) * valid).sum(-1);
  const Tensor target = (from_query * layout.in_target.unsqueeze(1)).sum(-1);
  const Tensor row_mass = raw.select(2, 0).abs().sum(-1);
  return at::stack({entropy, entropy_norm, row_mass, gather, aggregate, target}).sum(1).cpu();
}

/// Visits the maps of the heads asked for and adds their figures up.
class FigureTap final : public Tap {
 public:
  FigureTap(const ModelConfig& config, const std::vector<HeadId>& targets) {
    for (const HeadId& t : targets) {
      check_heads(config, {{t.layer, t.first, t.last}});
      const int64_t count = head_count(config.layers[static_cast<size_t>(t.layer)]);
      Tensor& sums = sums_[t.layer];
      if (!sums.defined()) sums = at::zeros({kFigures, count}, at::kDouble);
      for (const MapGroup& group : map_groups(config, t)) {
        Map& map = maps_[group.point];
        map.first = group.first;
        map.heads.insert(group.heads.begin(), group.heads.end());
      }
    }
  }
  void set_layout(PromptLayout layout) { layout_ = std::move(layout); }
  int64_t end_layer() const { return sums_.empty() ? 0 : sums_.rbegin()->first + 1; }
  /// [figure, head], over all examples so far
  const Tensor& sums(int64_t layer) const { return sums_.at(layer); }

  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override { return maps_.contains(point); }

  void visit_map(TapPoint point, HeadMap& map) override {
    const Map& wanted = maps_.at(point);
    // Once a device: layers come in order, and a device holds a run of them.
    if (layout_.rows.device() != map.device()) layout_ = layout_.on(map.device());
    // Mamba-1 has channels by the thousand: a slice at a time bounds the rows held.
    const int64_t per_head = map.batch() * layout_.rows.size(1) * map.keys();
    const int64_t step = std::max<int64_t>(1, kMaxElements / per_head);
    const std::vector<int64_t> all(wanted.heads.begin(), wanted.heads.end());
    for (int64_t first = 0; first < std::ssize(all); first += step) {
      const auto end = std::min(first + step, std::ssize(all));
      const std::vector<int64_t> heads(all.begin() + first, all.begin() + end);
      const Tensor columns = at::tensor(heads, at::kLong) + wanted.first;
      sums_.at(point.layer).index_add_(1, columns, figure_sums(map, layout_, heads));
    }
  }

 private:
  static constexpr int64_t kMaxElements = 1 << 22;
  struct Map {
    int64_t first = 0;        // the number that its first head has in the layer
    std::set<int64_t> heads;  // by the map's own numbers
  };
  std::map<TapPoint, Map> maps_;
  std::map<int64_t, Tensor> sums_;  // layer -> [figure, head], heads by the layer's numbers
  PromptLayout layout_;
};

/// What the uniform row scores, summed over examples, and how many examples a figure is a mean of.
struct UniformSums {
  double gather = 0, aggregate = 0, target = 0;
  double examples = 0, several_keys = 0, with_segments = 0, with_target = 0;

  void add(const PromptInfo& prompt) {
    examples += 1;
    several_keys += prompt.length > 1;
    if (prompt.segments.empty()) return;
    with_segments += 1;
    with_target += prompt.target_segment >= 0;
    const double n = static_cast<double>(prompt.segments.size());
    for (const auto& [start, end] : prompt.segments) {
      gather += static_cast<double>(end - start + 1) / static_cast<double>(end + 1) / n;
    }
    aggregate += n / static_cast<double>(prompt.length);
    if (prompt.target_segment < 0) return;
    const auto& [start, end] = prompt.segments[static_cast<size_t>(prompt.target_segment)];
    target += static_cast<double>(end - start + 1) / static_cast<double>(prompt.length);
  }
};

MapFigures figures_of(const HeadId& head, const Tensor& sums, const UniformSums& uniform) {
  const Tensor means = sums.slice(1, head.first, head.last + 1).mean(1);  // over channels
  const auto over = [&](Figure figure, double examples) {
    return examples > 0 ? std::optional(means[figure].item<double>() / examples) : std::nullopt;
  };
  MapFigures f;
  f.entropy = over(kEntropy, uniform.examples);
  f.entropy_norm = over(kEntropyNorm, uniform.several_keys);
  f.row_mass = over(kRowMass, uniform.examples);
  f.gather = over(kGather, uniform.with_segments);
  f.aggregate = over(kAggregate, uniform.with_segments);
  f.target = over(kTarget, uniform.with_target);
  if (uniform.with_segments > 0) {
    f.gather_uniform = uniform.gather / uniform.with_segments;
    f.aggregate_uniform = uniform.aggregate / uniform.with_segments;
  }
  if (uniform.with_target > 0) f.target_uniform = uniform.target / uniform.with_target;
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
    for (const int64_t example : batch.examples) {
      prompts.push_back(&objective.prompt(example));
      uniform.add(*prompts.back());
    }
    const Tensor ids = prompt_ids(batch, prompts).to(model.device());
    tap.set_layout(prompt_layout(prompts, ids.size(1)));
    const Tensor resid = model.embed(ids);
    model.run_layers(resid, 0, tap.end_layer(), &tap, nullptr, model.prompt_of(resid));
    if (progress) progress(b + 1, objective.batch_count());
  }
  std::vector<MapFigures> figures;
  for (const HeadId& t : targets) figures.push_back(figures_of(t, tap.sums(t.layer), uniform));
  return figures;
}

}  // namespace headlens
