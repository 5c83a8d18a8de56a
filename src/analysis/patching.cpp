// headlens/analysis: activation patching: one run goes on with what another had at a site.
#include "headlens/analysis/patching.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "analysis/batch_rows.h"
#include "analysis/batch_slots.h"
#include "analysis/paired_means.h"
#include "analysis/patch_gradients.h"
#include "analysis/patch_results.h"
#include "analysis/patch_sites.h"
#include "analysis/path_taps.h"
#include "analysis/sweep_memory.h"
#include "core/check.h"
#include "core/out_of_memory.h"

namespace headlens {
namespace {

/// Residuals entering layers 0 .. L - 1 and the one that leaves the last.
std::vector<Tensor> boundaries(const LanguageModel& model, const JudgedRun& run) {
  std::vector<Tensor> resids = {run.resid()};
  for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
    resids.push_back(
        model.run_layers(resids.back(), layer, layer + 1, nullptr, nullptr, run.prompt()));
  }
  return resids;
}

size_t heads_of(const PatchPlace& place) {
  return std::max<size_t>(1, place.heads.size());
}

/// Both runs of one batch.
struct BatchPair {
  int64_t index;
  JudgedRun run, donor;
  std::vector<Tensor> run_resids = {}, donor_resids = {};
  std::vector<Tensor> masks = {};  // [group] bool [row, pos]
  std::vector<Tensor> last = {};   // [group] int64 [row]; of State only
};

/// What both runs have at the sites of one layer.
struct LayerSites {
  SiteTensors run, donor;
};

class Patcher {
 public:
  Patcher(const LanguageModel& model, const Objective& clean, const Objective& corrupted,
          const std::vector<PositionGroup>& groups, const PatchOptions& options);
  Patching run();

 private:
  void check_groups() const;
  SweepOptions sweep_options() const;
  int64_t most_cells() const;
  void run_batch(int64_t index);
  void set_masks(BatchPair& pair) const;
  LayerSites layer_sites(const BatchPair& pair, int64_t layer) const;
  void patch(const BatchPair& pair, const LayerSites& sites, const PatchPlace& place);
  std::vector<std::vector<Verdict>> run_some(const BatchPair& pair, const LayerSites& sites,
                                             const PatchPlace& place, size_t first,
                                             size_t count) const;
  PatchMask mask_of(const BatchPair& pair, const PatchPlace& place, size_t first,
                    size_t count) const;
  Tensor state_changes(const BatchPair& pair, const LayerSites& sites, const PatchPlace& place,
                       size_t first, size_t count) const;
  void estimate(const BatchPair& pair, const LayerSites& sites, const PatchPlace& place,
                const Tensor& gradient);
  bool is_state() const { return options_.site == PatchSite::State; }
  bool is_map() const {
    return options_.site == PatchSite::Pattern || options_.site == PatchSite::Map;
  }
  PatchCell finished(const PatchPlace& place, size_t index) const;

  const LanguageModel& model_;
  const std::vector<PositionGroup>& groups_;
  const PatchOptions& options_;
  PairedRun clean_, corrupted_;
  const PairedRun &base_, &other_;  // the run that is patched, and the one it takes from
  std::map<int64_t, std::vector<PatchPlace>> places_;
  BatchPlanner planner_;
  SweepOutcome clean_outcome_, corrupted_outcome_;
  std::vector<PatchOutcome> cells_;
  int64_t done_ = 0;
};

Patcher::Patcher(const LanguageModel& model, const Objective& clean, const Objective& corrupted,
                 const std::vector<PositionGroup>& groups, const PatchOptions& options)
    : model_(model),
      groups_(groups),
      options_(options),
      clean_(clean, clean, corrupted),
      corrupted_(corrupted, clean, corrupted),
      base_(options.direction == PatchDirection::Denoising ? corrupted_ : clean_),
      other_(options.direction == PatchDirection::Denoising ? clean_ : corrupted_),
      places_(patch_places(model.config(), options)),
      planner_(model, sweep_options(), most_cells()),
      clean_outcome_(empty_outcome(clean)),
      corrupted_outcome_(clean_outcome_) {
  check_same_rows(clean, corrupted);
  check_groups();
  size_t cells = 0;
  for (auto& [layer, places] : places_) {
    for (PatchPlace& place : places) {
      place.first_cell = cells;
      cells += groups.size() * heads_of(place);
    }
  }
  cells_.assign(cells, {clean_outcome_, std::vector<double>(clean_outcome_.verdicts.size())});
}

SweepOptions Patcher::sweep_options() const {
  HEADLENS_CHECK(UsageError, options_.max_batch_tokens > 0,
                 "[patch] tokens a batch, expected at least 1, got {}", options_.max_batch_tokens);
  SweepOptions options;
  options.max_batch_tokens = options_.max_batch_tokens;
  options.max_gpu_bytes = options_.max_gpu_bytes;
  options.max_host_bytes = options_.max_host_bytes;
  return options;
}

int64_t Patcher::most_cells() const {
  size_t most = 1;
  for (const auto& [layer, places] : places_) {
    for (const PatchPlace& place : places) most = std::max(most, groups_.size() * heads_of(place));
  }
  return static_cast<int64_t>(most);
}

void Patcher::check_groups() const {
  HEADLENS_CHECK(UsageError, !groups_.empty(), "[patch] positions, expected at least one, got {}",
                 "none");
  HEADLENS_CHECK(TaskError, clean_.example_count() >= 2,
                 "[patch] examples, expected at least 2, got {}", clean_.example_count());
  for (const PositionGroup& group : groups_) {
    HEADLENS_CHECK(ShapeError,
                   group.everywhere || std::ssize(group.positions) == clean_.example_count(),
                   "[patch] positions '{}', expected those of {} examples, got of {}", group.name,
                   clean_.example_count(), group.positions.size());
    for (int64_t e = 0; is_state() && e < clean_.example_count(); ++e) {
      const int64_t length = clean_.prompt(e).length;
      const bool goes_on =
          !group.everywhere && group.positions[static_cast<size_t>(e)].back() < length - 1;
      HEADLENS_CHECK(UsageError, goes_on,
                     "[patch] positions '{}' of site state, expected some with a token of the "
                     "prompt behind them, got the last one in example {}",
                     group.name, e);
    }
  }
}

void Patcher::set_masks(BatchPair& pair) const {
  const ObjectiveBatch& batch = pair.run.batch();
  const Tensor example = example_of_rows(batch);
  for (const PositionGroup& group : groups_) {
    if (group.everywhere) {
      pair.masks.push_back(at::ones(batch.ids.sizes(), at::kBool));
      continue;
    }
    std::vector<Tensor> masks;
    std::vector<int64_t> last;
    for (const int64_t e : batch.examples) {
      const std::vector<int64_t>& positions = group.positions[static_cast<size_t>(e)];
      masks.push_back(mask_of_positions(batch.ids.size(1), positions));
      last.push_back(positions.back());
    }
    pair.masks.push_back(at::stack(masks).index_select(0, example));
    pair.last.push_back(at::tensor(last, at::kLong).index_select(0, example));
  }
}

/// The run's own are needed for gradients and states only.
LayerSites Patcher::layer_sites(const BatchPair& pair, int64_t layer) const {
  std::set<TapPoint> points;
  for (const PatchPlace& place : places_.at(layer)) {
    for (const TapPoint point : kept_points(place, options_.site)) points.insert(point);
  }
  const auto keep = [&](const JudgedRun& run, const std::vector<Tensor>& resids) {
    KeepSites tap(points);
    model_.run_layers(resids[static_cast<size_t>(layer)], layer, layer + 1, &tap, nullptr,
                      run.prompt());
    return std::move(tap.kept);
  };
  LayerSites sites;
  sites.donor = keep(pair.donor, pair.donor_resids);
  if (options_.attribution || is_state()) sites.run = keep(pair.run, pair.run_resids);
  return sites;
}

PatchMask Patcher::mask_of(const BatchPair& pair, const PatchPlace& place, size_t first,
                           size_t count) const {
  std::vector<Tensor> masks;
  for (size_t c = first; c < first + count; ++c) {
    const Tensor& where = pair.masks[c / heads_of(place)];
    Tensor heads = at::ones({std::max<int64_t>(1, place.head_count)}, at::kBool);
    if (!place.heads.empty()) {
      const HeadId& head = place.heads[c % heads_of(place)];
      heads.zero_();
      heads.slice(0, head.first - place.first_head, head.last - place.first_head + 1).fill_(true);
    }
    const Tensor positions = is_state() ? at::ones_like(where) : where;  // the change has its own
    masks.push_back(positions.unsqueeze(-1).logical_and(heads));
  }
  return at::cat(masks);
}

Tensor Patcher::state_changes(const BatchPair& pair, const LayerSites& sites,
                              const PatchPlace& place, size_t first, size_t count) const {
  std::map<size_t, Tensor> of_group;
  std::vector<Tensor> changes;
  for (size_t c = first; c < first + count; ++c) {
    const size_t group = c / heads_of(place);
    Tensor& change = of_group[group];
    if (!change.defined()) {
      change = carried_change(place, sites.run, sites.donor, pair.last[group]);
    }
    changes.push_back(change);
  }
  return at::cat(changes);
}

std::vector<std::vector<Verdict>> Patcher::run_some(const BatchPair& pair, const LayerSites& sites,
                                                    const PatchPlace& place, size_t first,
                                                    size_t count) const {
  const int64_t layer = place.point.layer;
  const PatchMask mask = mask_of(pair, place, first, count);
  std::unique_ptr<Tap> tap;
  if (is_state()) {
    const Tensor changes = state_changes(pair, sites, place, first, count);
    tap = std::make_unique<PatchSum>(place.point, changes, mask);
  } else if (is_map()) {
    tap = std::make_unique<PatchRows>(place.point, sites.donor.at(place.point), mask);
  } else {
    tap = std::make_unique<PatchTensor>(place.point, sites.donor.at(place.point), mask);
  }
  const Tensor& entering = pair.run_resids[static_cast<size_t>(layer)];
  return pair.run.finish(layer, repeated_rows(entering, static_cast<int64_t>(count)), tap.get());
}

void Patcher::patch(const BatchPair& pair, const LayerSites& sites, const PatchPlace& place) {
  const size_t cells = groups_.size() * heads_of(place);
  const int64_t tokens = pair.run.batch().ids.numel();
  size_t first = 0;
  while (first < cells) {
    const int64_t left = static_cast<int64_t>(cells - first);
    const int64_t count = std::min(left, planner_.next(tokens));
    std::vector<std::vector<Verdict>> verdicts;
    try {
      planner_.begin();
      verdicts = run_some(pair, sites, place, first, static_cast<size_t>(count));
      planner_.end(count * tokens);
    } catch (const std::exception& e) {
      if (!is_out_of_memory(e) || !planner_.ran_out(count, tokens)) throw;
      continue;
    }
    for (const auto& of_cell : verdicts) {
      pair.run.store(of_cell, cells_[place.first_cell + first++].outcome);
    }
  }
}

/// gradient . (other run - run), summed over the width of a head: [row, pos, head]
Tensor products(const Tensor& gradient, const Tensor& change, const PatchPlace& place,
                bool is_map) {
  const Tensor product = gradient.to(at::kDouble) * change.to(at::kDouble);
  if (is_map) return product.sum(-1).transpose(1, 2);
  if (product.dim() == 4) return product.sum(-1);
  return place.head_count == 0 ? product.sum(-1, /*keepdim=*/true) : product;
}

void Patcher::estimate(const BatchPair& pair, const LayerSites& sites, const PatchPlace& place,
                       const Tensor& gradient) {
  const ObjectiveBatch& batch = pair.run.batch();
  const Tensor example = example_of_rows(batch);
  Tensor terms;
  if (!is_state()) {
    const Tensor change = sites.donor.at(place.point).to(at::kDouble) - sites.run.at(place.point);
    terms = products(gradient, change, place, is_map());
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    Tensor of_rows;  // [row, head]
    if (is_state()) {
      const Tensor change = carried_change(place, sites.run, sites.donor, pair.last[g]);
      of_rows = products(gradient, change, place, false).sum(1);
    } else {
      of_rows = (terms * pair.masks[g].unsqueeze(-1).to(terms.device())).sum(1);
    }
    of_rows = of_rows.cpu();
    const Tensor of_examples =
        at::zeros({std::ssize(batch.examples), of_rows.size(1)}, of_rows.options())
            .index_add_(0, example, of_rows);
    for (size_t h = 0; h < heads_of(place); ++h) {
      Tensor own = of_examples;
      if (!place.heads.empty()) {
        const HeadId& head = place.heads[h];
        own = own.slice(1, head.first - place.first_head, head.last - place.first_head + 1);
      }
      const Tensor sums = own.sum(1).contiguous();
      PatchOutcome& cell = cells_[place.first_cell + g * heads_of(place) + h];
      for (size_t i = 0; i < batch.examples.size(); ++i) {
        cell.estimated[static_cast<size_t>(batch.examples[i])] = sums.data_ptr<double>()[i];
      }
    }
  }
}

void Patcher::run_batch(int64_t index) {
  BatchPair pair{index, JudgedRun(model_, base_, index), JudgedRun(model_, other_, index)};
  pair.run_resids = boundaries(model_, pair.run);
  pair.donor_resids = boundaries(model_, pair.donor);
  const int64_t end = model_.layer_count();
  const bool denoising = options_.direction == PatchDirection::Denoising;
  pair.run.store(pair.run.finish(end, pair.run_resids.back()).front(),
                 denoising ? corrupted_outcome_ : clean_outcome_);
  pair.donor.store(pair.donor.finish(end, pair.donor_resids.back()).front(),
                   denoising ? clean_outcome_ : corrupted_outcome_);
  set_masks(pair);
  std::optional<PatchGradients> gradients;
  if (options_.attribution) gradients.emplace(model_, base_, index, pair.run_resids.back());
  const int64_t total = base_.batch_count() * std::ssize(places_);
  for (int64_t layer = end - 1; layer >= places_.begin()->first; --layer) {
    const auto found = places_.find(layer);
    std::vector<TapPoint> points;
    if (found != places_.end()) {
      for (const PatchPlace& place : found->second) points.push_back(place.point);
    }
    SiteTensors at_sites;
    if (gradients) {
      at_sites = gradients->back_through(layer, pair.run_resids[static_cast<size_t>(layer)],
                                         pair.run.prompt(), points);
    }
    if (found == places_.end()) continue;
    const LayerSites sites = layer_sites(pair, layer);
    for (const PatchPlace& place : found->second) {
      patch(pair, sites, place);
      if (at_sites.contains(place.point)) estimate(pair, sites, place, at_sites.at(place.point));
    }
    if (options_.progress) options_.progress(++done_, total);
  }
}

PatchCell Patcher::finished(const PatchPlace& place, size_t index) const {
  PatchCell cell{place.point.layer, place.part, {}, index / heads_of(place)};
  if (!place.heads.empty()) cell.head = place.heads[index % heads_of(place)];
  const PatchOutcome& found = cells_[place.first_cell + index];
  fill_figures(cell, found.outcome, clean_outcome_, corrupted_outcome_, options_.direction);
  if (options_.attribution) cell.estimated = mean_estimate(found.estimated);
  return cell;
}

Patching Patcher::run() {
  BatchSlots slots;
  slots.add(clean_outcome_), slots.add(corrupted_outcome_);
  for (PatchOutcome& cell : cells_) slots.add(cell.outcome), slots.add(cell.estimated);
  const std::string what = fmt::format("patch {}", patch_site_name(options_.site));
  for (int64_t b = 0; b < base_.batch_count(); ++b) {
    slots.fill(options_.steps, what, base_, b, [&] { run_batch(b); });
  }
  Patching result;
  result.clean = run_figures(clean_outcome_);
  result.corrupted = run_figures(corrupted_outcome_);
  for (const PositionGroup& group : groups_) result.positions.push_back(group.name);
  for (const auto& [layer, places] : places_) {
    for (const PatchPlace& place : places) {
      for (size_t c = 0; c < groups_.size() * heads_of(place); ++c) {
        result.cells.push_back(finished(place, c));
      }
    }
  }
  if (options_.attribution) result.error = attribution_error(result.cells);
  result.memory = planner_.memory();
  return result;
}

}  // namespace

Patching patch_activations(const LanguageModel& model, const Objective& clean,
                           const Objective& corrupted, const std::vector<PositionGroup>& groups,
                           const PatchOptions& options) {
  c10::NoGradGuard no_grad;
  return Patcher(model, clean, corrupted, groups, options).run();
}

}  // namespace headlens
