// headlens/analysis: what heads look like by where they look: previous token, duplicate, induction.
#include "headlens/analysis/head_scores.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <span>

#include "analysis/map_groups.h"
#include "core/check.h"
#include "core/value_bytes.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/hooks/interventions.h"
#include "headlens/hooks/reducers.h"

namespace headlens {
namespace {

std::vector<int64_t> layers_of(const ModelConfig& config, const std::vector<HeadId>& targets) {
  std::set<int64_t> layers;
  for (const HeadId& t : targets) {
    check_heads(config, {{t.layer, t.first, t.last}});
    layers.insert(t.layer);
  }
  return {layers.begin(), layers.end()};
}

/// Runs the layers that have targets, so that `reducer` sees their maps.
void run_maps(const LanguageModel& model, const Tensor& ids, int64_t end_layer,
              MapReducer& reducer) {
  const Tensor resid = model.embed(ids);
  model.run_layers(resid, 0, end_layer, &reducer, nullptr, model.prompt_of(resid));
}

/// The mean over a target's heads of a figure that a layer's maps have by head: `of(stats)` [head,
/// ..] on the CPU.
template <typename Figure>
Tensor target_mean(const ModelConfig& config, const HeadId& target, const Figure& of) {
  std::vector<Tensor> parts;
  for (const MapGroup& group : map_groups(config, target)) {
    parts.push_back(of(group.point).index_select(0, at::tensor(group.heads, at::kLong)));
  }
  return at::cat(parts).to(at::kDouble).mean(0);
}

/// Figures of each target, [target] of [figure] float64, as a step that is kept.
std::vector<Tensor> kept_means(const KeptSteps& steps, const std::string& key,
                               const std::function<std::vector<Tensor>()>& compute) {
  if (!steps) return compute();
  const std::string bytes = steps(key, [&] {
    ValueWriter out;
    for (const Tensor& mean : compute()) {
      const Tensor whole = mean.contiguous();
      const double* const first = whole.const_data_ptr<double>();
      out.put_list(std::vector<double>(first, first + whole.numel()));
    }
    return std::move(out.bytes);
  });
  ValueReader in(bytes);
  std::vector<Tensor> means;
  while (!in.at_end()) means.push_back(at::tensor(in.get_list<double>(), at::kDouble));
  return means;
}

void add(const std::vector<Tensor>& means, std::vector<Tensor>& sums) {
  for (size_t t = 0; t < means.size(); ++t) sums[t] = sums[t] + means[t];
}

enum KeySet { kDuplicate, kInduction, kKeySets };

/// The keys of both patterns in every row of prompts [prompt, pos]: int64 [prompt, pos, set, n],
/// -1 pads.
Tensor pattern_keys(const Tensor& ids) {
  std::vector<std::vector<int64_t>> sets;  // [prompt * pos * set]
  size_t longest = 1;
  for (int64_t p = 0; p < ids.size(0); ++p) {
    std::map<int64_t, std::vector<int64_t>> places;  // token -> where it stood
    const int64_t* const prompt = ids.const_data_ptr<int64_t>() + p * ids.size(1);
    for (int64_t i = 0; i < ids.size(1); ++i) {
      std::vector<int64_t>& seen = places[prompt[i]];
      std::vector<int64_t> behind;
      for (const int64_t j : seen) behind.push_back(j + 1);
      sets.push_back(seen);
      sets.push_back(std::move(behind));
      longest = std::max(longest, seen.size());
      seen.push_back(i);
    }
  }
  Tensor keys =
      at::full({ids.size(0), ids.size(1), kKeySets, static_cast<int64_t>(longest)}, -1, at::kLong);
  int64_t* const to = keys.mutable_data_ptr<int64_t>();
  for (size_t s = 0; s < sets.size(); ++s) {
    std::copy(sets[s].begin(), sets[s].end(), to + s * longest);
  }
  return keys;
}

/// Shares of P on each pattern, summed over the prompts of a batch: [head, pattern] in float64 on
/// the CPU. P's rows sum to 1, but for those of a map that has nothing there.
Tensor pattern_shares(const MapStats& stats) {
  const auto total = [](const Tensor& x) { return x.to(at::kDouble).sum(2); };  // over rows
  const Tensor rows = total(stats.row_mass > 0).clamp_min(1).unsqueeze(2);
  return (at::cat({total(stats.offset_mass), total(stats.set_mass)}, 2) / rows).sum(0).to(at::kCPU);
}

/// The shares of each target, summed over prompts [prompt, pos] on the CPU: [target] of [pattern].
std::vector<Tensor> pattern_sums(const LanguageModel& model, const Tensor& ids,
                                 const std::vector<HeadId>& targets) {
  const std::vector<int64_t> layers = layers_of(model.config(), targets);
  MapReduceOptions asked;
  asked.offsets = {1};
  asked.key_sets = pattern_keys(ids);
  MapReducer reducer(model.config(), asked, layers);
  run_maps(model, ids, layers.back() + 1, reducer);
  std::map<TapPoint, Tensor> shares;
  std::vector<Tensor> sums;
  for (const HeadId& target : targets) {
    sums.push_back(target_mean(model.config(), target, [&](const TapPoint& point) {
      Tensor& share = shares[point];
      if (!share.defined()) share = pattern_shares(reducer.stats(point));
      return share;
    }));
  }
  return sums;
}

void check_trial(const RetrievalTrial& trial, size_t index, int64_t vocab) {
  const auto& [start, end] = trial.needle;
  HEADLENS_CHECK(TaskError, 0 <= start && start <= end && end < std::ssize(trial.prompt),
                 "[retrieval_scores] needle of trial {}, expected within {} tokens, got {} to {}",
                 index, trial.prompt.size(), start, end);
  const bool known = std::all_of(trial.answer.begin(), trial.answer.end(),
                                 [&](int64_t id) { return 0 <= id && id < vocab; });
  HEADLENS_CHECK(TaskError, !trial.answer.empty() && known,
                 "[retrieval_scores] answer of trial {}, expected tokens from 0 to {}, got {}",
                 index, vocab - 1, trial.answer.empty() ? "none" : "others");
}

/// Share of the answer's tokens that were written (ROUGE-1 recall over token ids).
double recall(const std::vector<int64_t>& answer, const std::vector<int64_t>& written) {
  std::multiset<int64_t> left(written.begin(), written.end());
  double found = 0;
  for (const int64_t id : answer) {
    const auto at = left.find(id);
    if (at == left.end()) continue;
    left.erase(at);
    ++found;
  }
  return found / static_cast<double>(answer.size());
}

/// Trials of one length that are decoded together.
using TrialBatch = std::span<const RetrievalTrial>;

int64_t steps_of(const RetrievalTrial& trial, int64_t most) {
  return std::min(most, std::ssize(trial.answer));
}

/// As many of the first trials as have the first one's length and fit; one at least.
TrialBatch first_batch(TrialBatch left, int64_t max_steps, int64_t max_tokens) {
  const int64_t length = std::ssize(left[0].prompt), steps = steps_of(left[0], max_steps);
  size_t count = 1;
  while (count < left.size() && static_cast<int64_t>(count + 1) * (length + steps) <= max_tokens &&
         std::ssize(left[count].prompt) == length && steps_of(left[count], max_steps) == steps) {
    ++count;
  }
  return left.first(count);
}

/// What the decoding of trials saw.
struct Decoded {
  std::vector<Tensor> written;                     // [step] of [trial]
  std::vector<std::map<TapPoint, Tensor>> looked;  // [step] map -> int64 [trial, head] key
  /// What was written in one trial.
  std::vector<int64_t> text(size_t trial) const {
    std::vector<int64_t> ids;
    for (const Tensor& step : written) ids.push_back(step.const_data_ptr<int64_t>()[trial]);
    return ids;
  }
};

/// All on the CPU.
Decoded decode(const LanguageModel& model, TrialBatch trials, const std::vector<int64_t>& layers,
               const std::vector<TapPoint>& points, int64_t steps) {
  Tensor row;
  const auto last_row = [&row](TapPoint) { return MapReduceOptions{.rows = row}; };
  MapReducer reducer(model.config(), last_row, layers);
  Decoded decoded;
  std::vector<Tensor> prompts;
  for (const RetrievalTrial& trial : trials) prompts.push_back(at::tensor(trial.prompt, at::kLong));
  Tensor ids = at::stack(prompts);
  for (int64_t step = 0; step < steps; ++step) {
    row = at::tensor({ids.size(1) - 1}, at::kLong);
    const Tensor last = row.unsqueeze(0).expand({ids.size(0), 1});
    const Tensor logits = model.forward(ids, {.tap = &reducer, .logit_positions = last});
    decoded.written.push_back(logits.select(1, 0).argmax(1).to(at::kCPU));
    ids = at::cat({ids, decoded.written.back().unsqueeze(1)}, 1);
    auto& looked = decoded.looked.emplace_back();
    for (const TapPoint& point : points) {
      looked[point] = reducer.stats(point).argmax.select(2, 0).to(at::kCPU);
    }
  }
  return decoded;
}

/// The two scores of each head of a map in one trial, the `index`th of those decoded: [head, 2].
Tensor trial_scores(const RetrievalTrial& trial, const Decoded& decoded, size_t index,
                    const TapPoint& point) {
  const auto& [start, end] = trial.needle;
  const double length = static_cast<double>(end - start + 1);
  const int64_t heads = decoded.looked.front().at(point).size(1);
  const std::vector<int64_t> written = decoded.text(index);
  std::vector<at::TensorAccessor<int64_t, 1>> looked;  // [step] of [head]
  for (const auto& step : decoded.looked) {
    looked.push_back(step.at(point).accessor<int64_t, 2>()[static_cast<int64_t>(index)]);
  }
  Tensor scores = at::zeros({heads, 2}, at::kDouble);
  auto write = scores.accessor<double, 2>();
  for (int64_t h = 0; h < heads; ++h) {
    std::set<int64_t> places;
    double hits = 0;
    for (size_t step = 0; step < written.size(); ++step) {
      const int64_t j = looked[step][h];
      const bool hit =
          start <= j && j <= end && trial.prompt[static_cast<size_t>(j)] == written[step];
      if (!hit) continue;
      ++hits;
      places.insert(j);
    }
    write[h][0] = hits / length;
    write[h][1] = static_cast<double>(places.size()) / length;
  }
  return scores;
}

/// Of each trial of a batch: whether its answer was found, [1], and if so the two scores of each
/// target, [2].
std::vector<Tensor> batch_scores(const LanguageModel& model, TrialBatch trials,
                                 const std::vector<HeadId>& targets, int64_t steps) {
  const std::vector<int64_t> layers = layers_of(model.config(), targets);
  std::vector<TapPoint> points;
  for (const int64_t layer : layers) {
    for (const TapPoint& point : map_points(model.config(), layer)) points.push_back(point);
  }
  const Decoded decoded = decode(model, trials, layers, points, steps);
  std::vector<Tensor> found;
  for (size_t i = 0; i < trials.size(); ++i) {
    const bool was = recall(trials[i].answer, decoded.text(i)) > 0.5;
    found.push_back(at::full({1}, was ? 1 : 0, at::kDouble));
    if (!was) continue;
    std::map<TapPoint, Tensor> scores;
    for (const TapPoint& point : points) scores[point] = trial_scores(trials[i], decoded, i, point);
    for (const HeadId& target : targets) {
      found.push_back(target_mean(model.config(), target,
                                  [&](const TapPoint& point) { return scores.at(point); }));
    }
  }
  return found;
}

}  // namespace

std::vector<PatternScores> pattern_scores(const LanguageModel& model, const Tensor& ids,
                                          const std::vector<HeadId>& targets,
                                          const std::function<void(int64_t, int64_t)>& progress,
                                          const KeptSteps& steps) {
  return pattern_scores(model, ids, targets, {.progress = progress, .steps = steps});
}

std::vector<PatternScores> pattern_scores(const LanguageModel& model, const Tensor& ids,
                                          const std::vector<HeadId>& targets,
                                          const HeadScoreOptions& options) {
  c10::NoGradGuard no_grad;
  HEADLENS_CHECK(
      ShapeError,
      ids.dim() == 2 && ids.scalar_type() == at::kLong && ids.size(0) > 0 && ids.size(1) > 1,
      "[pattern_scores] ids, expected int64 [prompt, pos] with 2 positions, got {} of {}",
      shape_string(ids.sizes()), c10::toString(ids.scalar_type()));
  layers_of(model.config(), targets);  // checks them
  std::vector<Tensor> sums(targets.size(), at::zeros({1 + kKeySets}, at::kDouble));
  const int64_t prompts = ids.size(0);
  const int64_t batch = std::max<int64_t>(1, options.max_batch_tokens / ids.size(1));
  const Tensor host = ids.cpu().contiguous();
  for (int64_t p = 0; p < prompts && !targets.empty(); p += batch) {
    const int64_t end = std::min(prompts, p + batch);
    const std::string key = fmt::format("patterns of prompts {} to {}", p, end - 1);
    add(kept_means(options.steps, key,
                   [&] { return pattern_sums(model, host.slice(0, p, end), targets); }),
        sums);
    if (options.progress) options.progress(end, prompts);
  }
  std::vector<PatternScores> scores;
  for (size_t t = 0; t < targets.size(); ++t) {
    const Tensor mean = sums[t] / prompts;
    scores.push_back({targets[t], head_kind_name(model.config(), targets[t]),
                      mean[0].item<double>(), mean[1 + kDuplicate].item<double>(),
                      mean[1 + kInduction].item<double>()});
  }
  return scores;
}

Tensor repeated_tokens(int64_t vocab, int64_t prompts, int64_t period, uint64_t seed) {
  for (const int64_t number : {vocab, prompts, period}) {
    HEADLENS_CHECK(UsageError, number >= 1,
                   "[repeated_tokens] numbers, expected at least 1, got {}", number);
  }
  std::mt19937_64 draw(seed);
  Tensor once = at::empty({prompts, period}, at::kLong);
  int64_t* const to = once.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < prompts * period; ++i) {
    to[i] = static_cast<int64_t>(draw() % static_cast<uint64_t>(vocab));
  }
  return at::cat({once, once}, 1);
}

RetrievalScores retrieval_scores(const LanguageModel& model,
                                 const std::vector<RetrievalTrial>& trials,
                                 const std::vector<HeadId>& targets, int64_t max_steps,
                                 const std::function<void(int64_t, int64_t)>& progress,
                                 const KeptSteps& kept) {
  return retrieval_scores(model, trials, targets, max_steps,
                          HeadScoreOptions{.progress = progress, .steps = kept});
}

RetrievalScores retrieval_scores(const LanguageModel& model,
                                 const std::vector<RetrievalTrial>& trials,
                                 const std::vector<HeadId>& targets, int64_t max_steps,
                                 const HeadScoreOptions& options) {
  c10::NoGradGuard no_grad;
  HEADLENS_CHECK(TaskError, !trials.empty() && max_steps > 0,
                 "[retrieval_scores] trials and steps, expected at least 1, got {} and {}",
                 trials.size(), max_steps);
  for (size_t i = 0; i < trials.size(); ++i) check_trial(trials[i], i, model.config().vocab_size);
  layers_of(model.config(), targets);  // checks them
  RetrievalScores result{std::ssize(trials), 0, {}};
  std::vector<Tensor> sums(targets.size(), at::zeros({2}, at::kDouble));
  for (size_t begin = 0; begin < trials.size();) {
    const TrialBatch batch =
        first_batch(TrialBatch(trials).subspan(begin), max_steps, options.max_batch_tokens);
    const std::string key =
        fmt::format("retrieval trials {} to {}", begin, begin + batch.size() - 1);
    const std::vector<Tensor> found = kept_means(options.steps, key, [&] {
      return batch_scores(model, batch, targets, steps_of(batch[0], max_steps));
    });
    for (size_t at = 0; at < found.size();) {
      if (found[at++].item<double>() == 0) continue;
      ++result.kept;
      for (Tensor& sum : sums) sum = sum + found[at++];
    }
    begin += batch.size();
    if (options.progress) options.progress(static_cast<int64_t>(begin), result.trials);
  }
  for (size_t t = 0; t < targets.size(); ++t) {
    const Tensor mean = sums[t] / std::max<int64_t>(1, result.kept);
    result.heads.push_back({targets[t], head_kind_name(model.config(), targets[t]),
                            mean[0].item<double>(), mean[1].item<double>()});
  }
  return result;
}

}  // namespace headlens
