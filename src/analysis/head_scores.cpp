// headlens/analysis: what heads look like by where they look: previous token, duplicate, induction.
#include "headlens/analysis/head_scores.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

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

/// The keys of both patterns in every row of a prompt: int64 [1, pos, set, n], -1 pads.
Tensor pattern_keys(const std::vector<int64_t>& ids) {
  std::map<int64_t, std::vector<int64_t>> places;  // token -> where it stood
  std::vector<std::vector<int64_t>> sets;          // [pos * set]
  size_t longest = 1;
  for (int64_t i = 0; i < std::ssize(ids); ++i) {
    std::vector<int64_t>& seen = places[ids[static_cast<size_t>(i)]];
    std::vector<int64_t> behind;
    for (const int64_t j : seen) behind.push_back(j + 1);
    sets.push_back(seen);
    sets.push_back(std::move(behind));
    longest = std::max(longest, seen.size());
    seen.push_back(i);
  }
  Tensor keys =
      at::full({1, std::ssize(ids), kKeySets, static_cast<int64_t>(longest)}, -1, at::kLong);
  int64_t* const to = keys.mutable_data_ptr<int64_t>();
  for (size_t s = 0; s < sets.size(); ++s) {
    std::copy(sets[s].begin(), sets[s].end(), to + s * longest);
  }
  return keys;
}

/// Shares of P on each pattern, of one prompt: [head, pattern] in float64 on the CPU. P's rows sum
/// to 1, but for those of a map that has nothing there.
Tensor pattern_shares(const MapStats& stats) {
  const auto total = [](const Tensor& x) { return x[0].to(at::kDouble).sum(1); };  // over rows
  const Tensor rows = total(stats.row_mass > 0).clamp_min(1).unsqueeze(1);
  return (at::cat({total(stats.offset_mass), total(stats.set_mass)}, 1) / rows).to(at::kCPU);
}

/// What the maps that `reducer` saw last come to, [target] of [pattern].
std::vector<Tensor> pattern_means(const ModelConfig& config, const std::vector<HeadId>& targets,
                                  const MapReducer& reducer) {
  std::map<TapPoint, Tensor> shares;
  std::vector<Tensor> means;
  means.reserve(targets.size());
  for (const HeadId& target : targets) {
    means.push_back(target_mean(config, target, [&](const TapPoint& point) {
      Tensor& share = shares[point];
      if (!share.defined()) share = pattern_shares(reducer.stats(point));
      return share;
    }));
  }
  return means;
}

/// `sums`: [target] of [pattern] over that many prompts.
std::vector<PatternScores> pattern_results(const ModelConfig& config,
                                           const std::vector<HeadId>& targets,
                                           const std::vector<Tensor>& sums, int64_t prompts) {
  std::vector<PatternScores> scores;
  for (size_t t = 0; t < targets.size(); ++t) {
    const Tensor mean = sums[t] / prompts;
    scores.push_back({targets[t], head_kind_name(config, targets[t]), mean[0].item<double>(),
                      mean[1 + kDuplicate].item<double>(), mean[1 + kInduction].item<double>()});
  }
  return scores;
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

/// What one trial's decoding saw.
struct Decoded {
  std::vector<int64_t> written;
  std::vector<std::map<TapPoint, Tensor>> looked;  // [step] map -> int64 [head] key on the CPU
};

Decoded decode(const LanguageModel& model, const RetrievalTrial& trial, MapReducer& reducer,
               Tensor& row, const std::vector<TapPoint>& points, int64_t steps) {
  Decoded decoded;
  std::vector<int64_t> ids = trial.prompt;
  for (int64_t step = 0; step < steps; ++step) {
    row = at::tensor({std::ssize(ids) - 1}, at::kLong);
    const Tensor logits = model.forward(at::tensor(ids, at::kLong).unsqueeze(0),
                                        {.tap = &reducer, .logit_positions = row.unsqueeze(0)});
    decoded.written.push_back(logits[0][0].argmax().item<int64_t>());
    ids.push_back(decoded.written.back());
    auto& looked = decoded.looked.emplace_back();
    for (const TapPoint& point : points) {
      looked[point] = reducer.stats(point).argmax[0].select(1, 0).to(at::kCPU);
    }
  }
  return decoded;
}

/// The two scores of each head of a map in one trial: [head, 2].
Tensor trial_scores(const RetrievalTrial& trial, const Decoded& decoded, const TapPoint& point) {
  const auto& [start, end] = trial.needle;
  const double length = static_cast<double>(end - start + 1);
  const int64_t heads = decoded.looked.front().at(point).size(0);
  std::vector<at::TensorAccessor<int64_t, 1>> looked;  // [step] of [head]
  for (const auto& step : decoded.looked) looked.push_back(step.at(point).accessor<int64_t, 1>());
  Tensor scores = at::zeros({heads, 2}, at::kDouble);
  auto write = scores.accessor<double, 2>();
  for (int64_t h = 0; h < heads; ++h) {
    std::set<int64_t> places;
    double hits = 0;
    for (size_t step = 0; step < decoded.written.size(); ++step) {
      const int64_t j = looked[step][h];
      const bool hit =
          start <= j && j <= end && trial.prompt[static_cast<size_t>(j)] == decoded.written[step];
      if (!hit) continue;
      ++hits;
      places.insert(j);
    }
    write[h][0] = hits / length;
    write[h][1] = static_cast<double>(places.size()) / length;
  }
  return scores;
}

/// What one trial comes to, [target] of [2]; nothing where the answer was not found.
std::vector<Tensor> retrieval_means(const ModelConfig& config, const std::vector<HeadId>& targets,
                                    const std::vector<TapPoint>& points,
                                    const RetrievalTrial& trial, const Decoded& decoded) {
  std::vector<Tensor> means;
  if (recall(trial.answer, decoded.written) <= 0.5) return means;
  std::map<TapPoint, Tensor> scores;
  for (const TapPoint& point : points) scores[point] = trial_scores(trial, decoded, point);
  for (const HeadId& target : targets) {
    means.push_back(
        target_mean(config, target, [&](const TapPoint& point) { return scores.at(point); }));
  }
  return means;
}

/// `sums`: [target] of [2] over the trials that were kept.
std::vector<RetrievalScore> retrieval_results(const ModelConfig& config,
                                              const std::vector<HeadId>& targets,
                                              const std::vector<Tensor>& sums, int64_t kept) {
  std::vector<RetrievalScore> heads;
  for (size_t t = 0; t < targets.size(); ++t) {
    const Tensor mean = sums[t] / std::max<int64_t>(1, kept);
    heads.push_back({targets[t], head_kind_name(config, targets[t]), mean[0].item<double>(),
                     mean[1].item<double>()});
  }
  return heads;
}

}  // namespace

std::vector<PatternScores> pattern_scores(const LanguageModel& model, const Tensor& ids,
                                          const std::vector<HeadId>& targets,
                                          const std::function<void(int64_t, int64_t)>& progress,
                                          const KeptSteps& steps) {
  c10::NoGradGuard no_grad;
  HEADLENS_CHECK(
      ShapeError,
      ids.dim() == 2 && ids.scalar_type() == at::kLong && ids.size(0) > 0 && ids.size(1) > 1,
      "[pattern_scores] ids, expected int64 [prompt, pos] with 2 positions, got {} of {}",
      shape_string(ids.sizes()), c10::toString(ids.scalar_type()));
  const std::vector<int64_t> layers = layers_of(model.config(), targets);
  std::vector<Tensor> sums(targets.size(), at::zeros({1 + kKeySets}, at::kDouble));
  Tensor keys;
  MapReducer reducer(
      model.config(),
      [&keys](TapPoint) {
        MapReduceOptions options;
        options.offsets = {1};
        options.key_sets = keys;
        return options;
      },
      layers);
  const int64_t prompts = ids.size(0);
  const Tensor host = ids.cpu().contiguous();
  for (int64_t p = 0; p < prompts && !targets.empty(); ++p) {
    const auto of_prompt = [&] {
      const int64_t* const first = host.const_data_ptr<int64_t>() + p * ids.size(1);
      keys = pattern_keys({first, first + ids.size(1)});
      run_maps(model, host.slice(0, p, p + 1), layers.back() + 1, reducer);
      return pattern_means(model.config(), targets, reducer);
    };
    add(kept_means(steps, fmt::format("patterns of prompt {}", p), of_prompt), sums);
    if (progress) progress(p + 1, prompts);
  }
  return pattern_results(model.config(), targets, sums, prompts);
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
  c10::NoGradGuard no_grad;
  HEADLENS_CHECK(TaskError, !trials.empty() && max_steps > 0,
                 "[retrieval_scores] trials and steps, expected at least 1, got {} and {}",
                 trials.size(), max_steps);
  for (size_t i = 0; i < trials.size(); ++i) check_trial(trials[i], i, model.config().vocab_size);
  const std::vector<int64_t> layers = layers_of(model.config(), targets);
  std::vector<TapPoint> points;
  for (const int64_t layer : layers) {
    for (const TapPoint& point : map_points(model.config(), layer)) points.push_back(point);
  }
  Tensor row;
  MapReducer reducer(
      model.config(),
      [&row](TapPoint) {
        MapReduceOptions options;
        options.rows = row;
        return options;
      },
      layers);
  RetrievalScores result{std::ssize(trials), 0, {}};
  std::vector<Tensor> sums(targets.size(), at::zeros({2}, at::kDouble));
  for (size_t i = 0; i < trials.size(); ++i) {
    const RetrievalTrial& trial = trials[i];
    const auto of_trial = [&] {  // empty: the answer was not found
      const int64_t steps = std::min(max_steps, std::ssize(trial.answer));
      const Decoded decoded = decode(model, trial, reducer, row, points, steps);
      return retrieval_means(model.config(), targets, points, trial, decoded);
    };
    const std::vector<Tensor> means =
        kept_means(kept, fmt::format("retrieval trial {}", i), of_trial);
    if (progress) progress(static_cast<int64_t>(i) + 1, result.trials);
    if (means.empty()) continue;
    ++result.kept;
    add(means, sums);
  }
  result.heads = retrieval_results(model.config(), targets, sums, result.kept);
  return result;
}

}  // namespace headlens
