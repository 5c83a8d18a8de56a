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

/// Which rows of a batch of prompts are looked at, and the keys whose mass counts there; segment
/// axes are padded to the longest list.
struct PromptLayout {
  Tensor rows;      // [batch, 1 + segment] int64: q, then the segment ends (padding: q)
  Tensor key_sets;  // [batch, 1 + segment, 2, n] int64: of q the ends and the right segment, of an
                    // end its own segment; -1 pads
  Tensor has_segment;  // [batch, segment] double 0/1

  PromptLayout on(at::Device device) const {
    return {rows.to(device), key_sets.to(device), has_segment.to(device)};
  }
};

/// The keys start..end into a set [n].
void fill_keys(Tensor set, int64_t start, int64_t end) {
  set.slice(0, 0, end - start + 1).copy_(at::arange(start, end + 1, set.options()));
}

PromptLayout prompt_layout(const std::vector<const PromptInfo*>& prompts) {
  const int64_t batch = std::ssize(prompts);
  int64_t segments = 0, longest = 1;
  for (const PromptInfo* p : prompts) {
    segments = std::max(segments, std::ssize(p->segments));
    for (const auto& [start, end] : p->segments) longest = std::max(longest, end - start + 1);
  }
  PromptLayout layout;
  layout.rows = at::zeros({batch, 1 + segments}, at::kLong);
  layout.key_sets = at::full({batch, 1 + segments, 2, std::max(longest, segments)}, -1, at::kLong);
  layout.has_segment = at::zeros({batch, segments}, at::kDouble);
  for (int64_t b = 0; b < batch; ++b) {
    const PromptInfo& prompt = *prompts[static_cast<size_t>(b)];
    layout.rows[b].fill_(prompt.length - 1);
    for (int64_t s = 0; s < std::ssize(prompt.segments); ++s) {
      const auto [start, end] = prompt.segments[static_cast<size_t>(s)];
      layout.rows[b][1 + s] = end;
      layout.has_segment[b][s] = 1;
      layout.key_sets[b][0][0][s] = end;
      fill_keys(layout.key_sets[b][1 + s][0], start, end);
      if (s == prompt.target_segment) fill_keys(layout.key_sets[b][0][1], start, end);
    }
  }
  return layout;
}

enum Figure { kEntropy, kEntropyNorm, kRowMass, kGather, kAggregate, kTarget, kFigures };

/// Figures of P's rows, summed over the batch's examples; an example without what a figure needs
/// adds 0. Formulas of docs/metrics.md: [figure, head] in float64, on the map's device.
Tensor figure_sums(const HeadMap& map, const PromptLayout& layout,
                   const std::vector<int64_t>& heads) {
  MapReduceOptions options;
  options.rows = layout.rows;
  options.heads = heads;
  options.key_sets = layout.key_sets;
  const MapStats stats = map.reduce(options);
  const auto of_query = [](const Tensor& x) { return x.select(2, 0).to(at::kDouble); };
  const Tensor entropy = of_query(stats.entropy);  // [batch, head]
  const Tensor log_keys = layout.rows.select(1, 0).to(at::kDouble).log1p().unsqueeze(1);
  const Tensor entropy_norm = (entropy / log_keys).masked_fill(log_keys == 0, 0);
  const Tensor valid = layout.has_segment.unsqueeze(1);
  const Tensor own = stats.set_mass.slice(2, 1).select(3, 0).to(at::kDouble);
  const Tensor gather = (own * valid).sum(-1) / valid.sum(-1).clamp_min(1);
  const Tensor aggregate = of_query(stats.set_mass.select(3, 0));
  const Tensor target = of_query(stats.set_mass.select(3, 1));
  const Tensor row_mass = of_query(stats.row_mass);
  return at::stack({entropy, entropy_norm, row_mass, gather, aggregate, target}).sum(1);
}

/// Visits the maps of the heads asked for and adds their figures up.
class FigureTap final : public Tap {
 public:
  FigureTap(const ModelConfig& config, const std::vector<HeadId>& targets) {
    for (const HeadId& t : targets) {
      check_heads(config, {{t.layer, t.first, t.last}});
      const int64_t count = head_count(config.layers[static_cast<size_t>(t.layer)]);
      sums_[t.layer] = at::zeros({kFigures, count}, at::kDouble);
      for (const MapGroup& group : map_groups(config, t)) {
        Map& map = maps_[group.point];
        map.first = group.first;
        map.heads.insert(group.heads.begin(), group.heads.end());
      }
    }
  }
  void set_layout(PromptLayout layout) { layout_ = std::move(layout); }
  int64_t end_layer() const { return sums_.empty() ? 0 : sums_.rbegin()->first + 1; }
  /// [figure, head] of each layer, over all examples so far, on the CPU: the one copy out.
  std::map<int64_t, Tensor> sums() const {
    std::map<int64_t, Tensor> all;
    for (const auto& [layer, sums] : sums_) all[layer] = sums.cpu();
    return all;
  }

  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override { return maps_.contains(point); }

  void visit_map(TapPoint point, HeadMap& map) override {
    const Map& wanted = maps_.at(point);
    // Once a device: layers come in order, and a device holds a run of them.
    if (layout_.rows.device() != map.device()) layout_ = layout_.on(map.device());
    const std::vector<int64_t> heads(wanted.heads.begin(), wanted.heads.end());
    Tensor& sums = sums_.at(point.layer);
    if (sums.device() != map.device()) sums = sums.to(map.device());
    const Tensor columns = (at::tensor(heads, at::kLong) + wanted.first).to(map.device());
    sums.index_add_(1, columns, figure_sums(map, layout_, heads));
  }

 private:
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
    const Tensor ids = prompt_ids(batch, prompts);
    tap.set_layout(prompt_layout(prompts));
    const Tensor resid = model.embed(ids);
    model.run_layers(resid, 0, tap.end_layer(), &tap, nullptr, model.prompt_of(resid));
    if (progress) progress(b + 1, objective.batch_count());
  }
  const std::map<int64_t, Tensor> sums = tap.sums();
  std::vector<MapFigures> figures;
  for (const HeadId& t : targets) figures.push_back(figures_of(t, sums.at(t.layer), uniform));
  return figures;
}

}  // namespace headlens
