// headlens/analysis: sweeps and map figures cut into work items, for a pool to do.
#include "headlens/analysis/work_items.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <set>

#include "analysis/item_bytes.h"
#include "analysis/replacements.h"
#include "analysis/target_taps.h"
#include "core/check.h"

namespace headlens {
namespace {

/// One batch of an objective, its examples numbered as there.
class OneBatch final : public Objective {
 public:
  OneBatch(const Objective& whole, int64_t batch) : whole_(whole), batch_(batch) {}

  int64_t example_count() const override { return whole_.example_count(); }
  int64_t batch_count() const override { return 1; }
  const ObjectiveBatch& batch(int64_t) const override { return whole_.batch(batch_); }
  const PromptInfo& prompt(int64_t example) const override { return whole_.prompt(example); }
  std::vector<std::vector<Verdict>> judge(int64_t, const Tensor& logits,
                                          int64_t variants) const override {
    return whole_.judge(batch_, logits, variants);
  }
  Tensor answer_log_odds(int64_t, const Tensor& logits) const override {
    return whole_.answer_log_odds(batch_, logits);
  }
  Tensor judged_tokens(int64_t) const override { return whole_.judged_tokens(batch_); }
  std::vector<std::vector<Verdict>> judge_tokens(int64_t, const Tensor& logprobs) const override {
    return whole_.judge_tokens(batch_, logprobs);
  }

 private:
  const Objective& whole_;
  int64_t batch_;
};

const char* positions_name(CutPositions positions) {
  switch (positions) {
    case CutPositions::All:
      return "all";
    case CutPositions::FromQuery:
      return "from_query";
    case CutPositions::BeforeQuery:
      return "before_query";
    case CutPositions::InSegments:
      return "in_segments";
    case CutPositions::SegmentsFromQuery:
      return "segments_from_query";
  }
  return "";
}

std::string heads_text(const std::vector<HeadId>& heads) {
  std::string text;
  for (const HeadId& h : heads) text += fmt::format(" {}.{}-{}", h.layer, h.first, h.last);
  return text;
}

/// All that a target cuts, so that no two alike have unlike texts.
std::string targets_text(const std::vector<SweepTarget>& targets) {
  std::string text;
  for (const SweepTarget& target : targets) {
    text += fmt::format(" heads{} mlps {}", heads_text(target.heads), fmt::join(target.mlps, ","));
    for (const MapCut& cut : target.maps) {
      text += fmt::format(" map {} heads {} segments {} keys {} {} {}", cut.layer,
                          fmt::join(cut.heads, ","), fmt::join(cut.segments, ","),
                          fmt::join(cut.keys, ","), cut.from_query, cut.renormalize);
    }
  }
  return text;
}

std::string cut_text(const char* what, const SweepOptions& options) {
  const std::string mode = options.mode == AblationMode::Scale
                               ? fmt::format("scale by {}", options.factor)
                               : mode_name(options.mode);
  return fmt::format("{} {} {} {}", what, mode,
                     options.placement == Placement::PostNorm ? "post_norm" : "pre_norm",
                     positions_name(options.positions));
}

/// The options of a sweep over one batch: what replaces cut heads still comes from all of them. It
/// is found by the first item that this process does, if it does one.
class BatchOptions {
 public:
  BatchOptions(const LanguageModel& model, const Objective& objective,
               const std::vector<SweepTarget>& targets, const SweepOptions& options)
      : model_(model), objective_(objective), options_(options) {
    HEADLENS_CHECK(UsageError, !options.replacements,
                   "[sweep] replacements, expected none where a pool does the work, got {}",
                   "some");
    TargetList list;
    for (const SweepTarget& target : targets) list.push_back(&target);
    points_ = cut_points(model.config(), list, options.placement);
  }

  SweepOptions for_batch(int64_t batch) {
    SweepOptions options = options_;
    options.progress = {};
    const bool elsewhere =
        options.mode == AblationMode::Mean || options.mode == AblationMode::Resample;
    if (!elsewhere || points_.empty()) return options;
    if (!whole_) {
      whole_ = std::make_unique<Replacements>(model_, objective_, points_, options.mode);
    }
    options.replacements = [this, batch](int64_t) { return whole_->for_batch(batch); };
    return options;
  }

 private:
  const LanguageModel& model_;
  const Objective& objective_;
  const SweepOptions& options_;
  std::vector<TapPoint> points_;
  std::unique_ptr<Replacements> whole_;
};

std::vector<Verdict> of_batch(const SweepOutcome& outcome, const ObjectiveBatch& batch) {
  std::vector<Verdict> verdicts;
  for (const int64_t e : batch.examples) {
    verdicts.push_back(outcome.verdicts.at(static_cast<size_t>(e)));
  }
  return verdicts;
}

/// The base, then each variant: what an item leaves.
std::string result_bytes(const SweepResult& result, const ObjectiveBatch& batch) {
  VerdictTable table = {of_batch(result.base, batch)};
  for (const SweepOutcome& variant : result.variants) table.push_back(of_batch(variant, batch));
  return verdict_bytes(table);
}

void put_verdicts(const std::vector<Verdict>& verdicts, const ObjectiveBatch& batch,
                  SweepOutcome& outcome) {
  for (size_t i = 0; i < verdicts.size(); ++i) {
    outcome.verdicts.at(static_cast<size_t>(batch.examples[i])) = verdicts[i];
  }
}

/// The results of all items in one. Items of a batch repeat its base, and agree on it.
SweepResult joined(const Objective& objective, const std::vector<SweepItem>& items,
                   const std::vector<std::string>& results, size_t variants) {
  SweepResult all;
  all.base.verdicts.resize(static_cast<size_t>(objective.example_count()));
  all.variants.assign(variants, all.base);
  for (size_t i = 0; i < items.size(); ++i) {
    const ObjectiveBatch& batch = objective.batch(items[i].batch);
    const auto table =
        read_verdicts(results[i], items[i].targets.size() + 1, batch.examples.size());
    put_verdicts(table[0], batch, all.base);
    for (size_t v = 0; v < items[i].targets.size(); ++v) {
      put_verdicts(table[v + 1], batch, all.variants[items[i].targets[v]]);
    }
  }
  return all;
}

/// How many examples each figure of a batch is a mean of (docs/metrics.md, "Who counts").
struct Counts {
  double examples = 0, several_keys = 0, with_segments = 0, with_target = 0;

  explicit Counts(const Objective& objective, const ObjectiveBatch& batch) {
    for (const int64_t e : batch.examples) {
      const PromptInfo& prompt = objective.prompt(e);
      examples += 1;
      several_keys += prompt.length > 1;
      with_segments += !prompt.segments.empty();
      with_target += !prompt.segments.empty() && prompt.target_segment >= 0;
    }
  }
};

/// Means over batches weighed by the examples that count.
class FigureMean {
 public:
  void add(const MapFigures& figures, const Counts& counts) {
    for (const auto& [figure, count] : kWeights) {
      if (!(figures.*figure)) continue;
      sums_.*figure = (sums_.*figure).value_or(0) + *(figures.*figure) * counts.*count;
      totals_.*figure = (totals_.*figure).value_or(0) + counts.*count;
    }
  }
  MapFigures mean() const {
    MapFigures means;
    for (const auto& [figure, count] : kWeights) {
      if (sums_.*figure) means.*figure = *(sums_.*figure) / *(totals_.*figure);
    }
    return means;
  }

 private:
  struct Weight {
    std::optional<double> MapFigures::*figure;
    double Counts::*count;
  };
  static constexpr Weight kWeights[] = {{&MapFigures::entropy, &Counts::examples},
                                        {&MapFigures::entropy_norm, &Counts::several_keys},
                                        {&MapFigures::row_mass, &Counts::examples},
                                        {&MapFigures::gather, &Counts::with_segments},
                                        {&MapFigures::gather_uniform, &Counts::with_segments},
                                        {&MapFigures::aggregate, &Counts::with_segments},
                                        {&MapFigures::aggregate_uniform, &Counts::with_segments},
                                        {&MapFigures::target, &Counts::with_target},
                                        {&MapFigures::target_uniform, &Counts::with_target}};

  MapFigures sums_, totals_;
};

/// Layers of work in an item that is cut when `left` are left: an eighth of that, so that processes
/// end together, within limits that keep the repeated forward small.
int64_t item_cost(int64_t left, int64_t layers, int64_t forwards) {
  return std::clamp(left / 8, forwards * layers / 8, forwards * layers);
}

}  // namespace

std::vector<SweepItem> sweep_items(int64_t layers, int64_t batches,
                                   const std::vector<HeadId>& targets, int64_t forwards) {
  std::vector<size_t> order(targets.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return targets[a].layer < targets[b].layer; });
  int64_t left = 0;  // in layers, as all costs here
  for (const HeadId& target : targets) left += layers - target.layer;
  left *= batches;
  std::vector<SweepItem> items;
  for (int64_t b = 0; b < batches; ++b) {
    items.push_back({b, {}});
    int64_t cost = 0, most = item_cost(left, layers, forwards);
    for (const size_t t : order) {
      if (cost >= most) {
        items.push_back({b, {}});
        cost = 0;
        most = item_cost(left, layers, forwards);
      }
      items.back().targets.push_back(t);
      cost += layers - targets[t].layer;
      left -= layers - targets[t].layer;
    }
  }
  return items;
}

SweepResult pooled_sweep(WorkPool& pool, const LanguageModel& model, const Objective& objective,
                         const std::vector<HeadId>& targets, const SweepOptions& options,
                         const std::string& examples) {
  const std::vector<SweepItem> items =
      sweep_items(model.layer_count(), objective.batch_count(), targets);
  BatchOptions of_batches(model, objective, one_each(targets), options);
  const auto heads_of = [&](const SweepItem& item) {
    std::vector<HeadId> heads;
    for (const size_t t : item.targets) heads.push_back(targets[t]);
    return heads;
  };
  const std::string of_examples = examples.empty() ? "" : fmt::format("of {} ", examples);
  std::vector<std::string> keys;
  for (const SweepItem& item : items) {
    keys.push_back(fmt::format("{} {}batch {} heads{}", cut_text("each", options), of_examples,
                               item.batch, heads_text(heads_of(item))));
  }
  int64_t out_of_memory = 0;  // in the items of this process
  const auto compute = [&](size_t i) {
    const OneBatch batch(objective, items[i].batch);
    const SweepResult swept =
        ablation_sweep(model, batch, heads_of(items[i]), of_batches.for_batch(items[i].batch));
    out_of_memory += swept.memory.out_of_memory;
    return result_bytes(swept, batch.batch(0));
  };
  SweepResult all =
      joined(objective, items, pool.run(keys, compute, options.progress), targets.size());
  all.memory.out_of_memory = out_of_memory;
  return all;
}

SweepResult pooled_targets(WorkPool& pool, const LanguageModel& model, const Objective& objective,
                           const std::vector<SweepTarget>& targets, const SweepOptions& options) {
  BatchOptions of_batches(model, objective, targets, options);
  std::vector<size_t> all_targets(targets.size());
  std::iota(all_targets.begin(), all_targets.end(), 0);
  std::vector<SweepItem> items;
  std::vector<std::string> keys;
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    items.push_back({b, all_targets});
    keys.push_back(
        fmt::format("{} batch {}{}", cut_text("targets", options), b, targets_text(targets)));
  }
  int64_t out_of_memory = 0;
  const auto compute = [&](size_t i) {
    const OneBatch batch(objective, items[i].batch);
    const SweepResult swept =
        sweep_targets(model, batch, targets, of_batches.for_batch(items[i].batch));
    out_of_memory += swept.memory.out_of_memory;
    return result_bytes(swept, batch.batch(0));
  };
  SweepResult all =
      joined(objective, items, pool.run(keys, compute, options.progress), targets.size());
  all.memory.out_of_memory = out_of_memory;
  return all;
}

std::vector<MapFigures> pooled_map_figures(WorkPool& pool, const LanguageModel& model,
                                           const Objective& objective,
                                           const std::vector<HeadId>& targets,
                                           const WorkPool::Progress& progress) {
  std::vector<std::string> keys;
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    keys.push_back(fmt::format("maps batch {} heads{}", b, heads_text(targets)));
  }
  const auto compute = [&](size_t b) {
    return figure_bytes(map_figures(model, OneBatch(objective, static_cast<int64_t>(b)), targets));
  };
  const std::vector<std::string> results = pool.run(keys, compute, progress);
  std::vector<FigureMean> means(targets.size());
  for (size_t b = 0; b < results.size(); ++b) {
    const Counts counts(objective, objective.batch(static_cast<int64_t>(b)));
    const std::vector<MapFigures> figures = read_figures(results[b], targets.size());
    for (size_t t = 0; t < targets.size(); ++t) means[t].add(figures[t], counts);
  }
  std::vector<MapFigures> all;
  for (const FigureMean& mean : means) all.push_back(mean.mean());
  return all;
}

ScreenEstimates pooled_estimates(WorkPool& pool, const std::function<ScreenEstimates()>& estimate) {
  const auto compute = [&](size_t) { return estimate_bytes(estimate()); };
  return read_estimates(pool.run({"screen"}, compute).front());
}

}  // namespace headlens
