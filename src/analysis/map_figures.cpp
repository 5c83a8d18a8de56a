// headlens/analysis: entropy, gather, aggregate and target mass of every head's map.
#include "headlens/analysis/map_figures.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <limits>
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
void fill_keys(const Tensor& set, int64_t start, int64_t end) {
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

enum Figure {
  kEntropy,
  kEntropyNorm,
  kRowMass,
  kGather,
  kAggregate,
  kTarget,
  kEffective,
  kPeak,
  kFigures
};

/// Figures of P's rows; an example without what a figure needs has 0. Formulas of docs/metrics.md:
/// [figure, batch, head] in float64, on the map's device.
Tensor batch_figures(const HeadMap& map, const PromptLayout& layout,
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
  const Tensor peak = of_query(stats.max);
  return at::stack(
      {entropy, entropy_norm, row_mass, gather, aggregate, target, entropy.exp(), peak});
}

/// Visits the maps of the heads asked for and hands their figures over: [figure, batch, head], and
/// the numbers these heads have in the layer, int64 [head] on the figures' device.
class FigureTap final : public Tap {
 public:
  using Sink = std::function<void(int64_t layer, const Tensor& heads, const Tensor& figures)>;

  FigureTap(const ModelConfig& config, const std::vector<HeadId>& targets, Sink sink)
      : sink_(std::move(sink)) {
    for (const HeadId& t : targets) {
      check_heads(config, {{t.layer, t.first, t.last}});
      end_layer_ = std::max(end_layer_, t.layer + 1);
      for (const MapGroup& group : map_groups(config, t)) {
        Map& map = maps_[group.point];
        map.first = group.first;
        map.heads.insert(group.heads.begin(), group.heads.end());
      }
    }
  }
  void set_layout(PromptLayout layout) { layout_ = std::move(layout); }
  int64_t end_layer() const { return end_layer_; }

  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override { return maps_.contains(point); }

  void visit_map(TapPoint point, HeadMap& map) override {
    const Map& wanted = maps_.at(point);
    // Once a device: layers come in order, and a device holds a run of them.
    if (layout_.rows.device() != map.device()) layout_ = layout_.on(map.device());
    const std::vector<int64_t> heads(wanted.heads.begin(), wanted.heads.end());
    const Tensor numbers = (at::tensor(heads, at::kLong) + wanted.first).to(map.device());
    sink_(point.layer, numbers, batch_figures(map, layout_, heads));
  }

 private:
  struct Map {
    int64_t first = 0;        // the number that its first head has in the layer
    std::set<int64_t> heads;  // by the map's own numbers
  };
  Sink sink_;
  std::map<TapPoint, Map> maps_;
  int64_t end_layer_ = 0;
  PromptLayout layout_;
};

/// Figures of each layer's heads summed over all examples so far.
class FigureSums {
 public:
  FigureSums(const ModelConfig& config, const std::vector<HeadId>& targets) {
    for (const HeadId& t : targets) {
      check_heads(config, {{t.layer, t.first, t.last}});
      const int64_t count = head_count(config.layers[static_cast<size_t>(t.layer)]);
      sums_[t.layer] = at::zeros({kFigures, count}, at::kDouble);
    }
  }
  void add(int64_t layer, const Tensor& heads, const Tensor& figures) {
    Tensor& sums = sums_.at(layer);
    if (sums.device() != figures.device()) sums = sums.to(figures.device());
    sums.index_add_(1, heads, figures.sum(1));
  }
  /// [figure, head] of each layer, on the CPU: the one copy out.
  std::map<int64_t, Tensor> on_host() const {
    std::map<int64_t, Tensor> all;
    for (const auto& [layer, sums] : sums_) all[layer] = sums.cpu();
    return all;
  }

 private:
  std::map<int64_t, Tensor> sums_;  // layer -> [figure, head], heads by the layer's numbers
};

/// Figures of each target, means over its heads, in the examples of one batch.
class TargetFigures {
 public:
  TargetFigures(const ModelConfig& config, const std::vector<HeadId>& targets) {
    for (size_t t = 0; t < targets.size(); ++t) members_[targets[t].layer].push_back(t);
    for (const auto& [layer, members] : members_) {
      const int64_t count = head_count(config.layers[static_cast<size_t>(layer)]);
      Tensor shares = at::zeros({count, std::ssize(members)}, at::kDouble);
      for (size_t m = 0; m < members.size(); ++m) {
        const HeadId& t = targets[members[m]];
        shares.slice(0, t.first, t.last + 1).select(1, static_cast<int64_t>(m)) +=
            1.0 / static_cast<double>(t.last - t.first + 1);
      }
      shares_[layer] = shares;
    }
  }
  void add(int64_t layer, const Tensor& heads, const Tensor& figures) {
    Tensor& shares = shares_.at(layer);
    if (shares.device() != figures.device()) shares = shares.to(figures.device());
    Tensor part = at::matmul(figures, shares.index_select(0, heads));  // [figure, batch, member]
    Tensor& batch = batch_[layer];
    batch = batch.defined() ? batch + part : part;
  }
  /// Calls `put(target, [figure, batch] on the CPU)` for each target, and forgets the batch.
  template <typename Put>
  void take(Put put) {
    for (auto& [layer, figures] : batch_) {
      const Tensor host = figures.cpu();
      const std::vector<size_t>& members = members_.at(layer);
      for (size_t m = 0; m < members.size(); ++m) {
        put(members[m], host.select(2, static_cast<int64_t>(m)));
      }
    }
    batch_.clear();
  }

 private:
  std::map<int64_t, std::vector<size_t>> members_;  // layer -> targets
  std::map<int64_t, Tensor> shares_;                // layer -> [head, member]
  std::map<int64_t, Tensor> batch_;                 // layer -> [figure, batch, member]
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

/// Runs every batch's prompts through the layers that the tap looks at; `batch_done` is called with
/// the prompts after each.
void run_prompts(const LanguageModel& model, const Objective& objective, FigureTap& tap,
                 const std::function<void(int64_t, int64_t)>& progress,
                 const std::function<void(const ObjectiveBatch&)>& batch_done) {
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const ObjectiveBatch& batch = objective.batch(b);
    std::vector<const PromptInfo*> prompts;
    for (const int64_t example : batch.examples) prompts.push_back(&objective.prompt(example));
    const Tensor ids = prompt_ids(batch, prompts);
    tap.set_layout(prompt_layout(prompts));
    const Tensor resid = model.embed(ids);
    model.run_layers(resid, 0, tap.end_layer(), &tap, nullptr, model.prompt_of(resid));
    batch_done(batch);
    if (progress) progress(b + 1, objective.batch_count());
  }
}

constexpr std::array<Figure, kMapFigures> kCompared = {kEntropyNorm, kEffective, kPeak, kGather,
                                                       kAggregate};

/// NaN in place of the figures that the example cannot have.
void hide_absent(const PromptInfo& prompt, Eigen::Ref<Eigen::VectorXd> values) {
  const double absent = std::numeric_limits<double>::quiet_NaN();
  const auto hide = [&](MapFigure figure) { values[static_cast<Eigen::Index>(figure)] = absent; };
  if (prompt.length < 2) hide(MapFigure::EntropyNorm);
  if (!prompt.segments.empty()) return;
  hide(MapFigure::Gather);
  hide(MapFigure::Aggregate);
}

}  // namespace

std::vector<MapFigures> map_figures(const LanguageModel& model, const Objective& objective,
                                    const std::vector<HeadId>& targets,
                                    const std::function<void(int64_t, int64_t)>& progress) {
  c10::NoGradGuard no_grad;
  FigureSums sums(model.config(), targets);
  FigureTap tap(model.config(), targets, [&](int64_t layer, const Tensor& heads, const Tensor& f) {
    sums.add(layer, heads, f);
  });
  UniformSums uniform;
  run_prompts(model, objective, tap, progress, [&](const ObjectiveBatch& batch) {
    for (const int64_t example : batch.examples) uniform.add(objective.prompt(example));
  });
  const std::map<int64_t, Tensor> all = sums.on_host();
  std::vector<MapFigures> figures;
  for (const HeadId& t : targets) figures.push_back(figures_of(t, all.at(t.layer), uniform));
  return figures;
}

std::vector<HeadValues> map_values(const LanguageModel& model, const Objective& objective,
                                   const std::vector<HeadId>& targets,
                                   const std::function<void(int64_t, int64_t)>& progress) {
  c10::NoGradGuard no_grad;
  std::vector<HeadValues> all;
  for (const HeadId& t : targets) {
    check_heads(model.config(), {{t.layer, t.first, t.last}});
    const HeadBank bank = bank_of(model.config().layers[static_cast<size_t>(t.layer)], t.first);
    all.push_back(
        {t, layer_kind_name(bank.kind),
         Eigen::MatrixXd::Zero(static_cast<Eigen::Index>(kMapFigures), objective.example_count())});
  }
  TargetFigures means(model.config(), targets);
  FigureTap tap(model.config(), targets, [&](int64_t layer, const Tensor& heads, const Tensor& f) {
    means.add(layer, heads, f);
  });
  run_prompts(model, objective, tap, progress, [&](const ObjectiveBatch& batch) {
    means.take([&](size_t target, const Tensor& figures) {
      const auto read = figures.accessor<double, 2>();
      for (int64_t i = 0; i < std::ssize(batch.examples); ++i) {
        const int64_t example = batch.examples[static_cast<size_t>(i)];
        auto column = all[target].values.col(example);
        for (size_t f = 0; f < kMapFigures; ++f) {
          column[static_cast<Eigen::Index>(f)] = read[kCompared[f]][i];
        }
        hide_absent(objective.prompt(example), column);
      }
    });
  });
  return all;
}

}  // namespace headlens
