// headlens/tests: pairs of a clean and a corrupted example, and one patch done with hooks.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <vector>

#include "analysis_tools.h"
#include "headlens/analysis/patching.h"
#include "headlens/hooks/hook_set.h"

namespace headlens::testing {

/// The clean examples of a few lengths, and for each one with other tokens in two of its segments
/// (and one token besides) whose answer is another choice.
struct ExamplePairs {
  std::vector<TokenizedExample> clean, corrupted;
};
inline ExamplePairs example_pairs() {
  ExamplePairs pairs;
  const auto add = [&](int64_t length, std::vector<std::vector<int64_t>> choices, int64_t answer,
                       int64_t other) {
    TokenizedExample example;
    for (int64_t p = 0; p < length; ++p) {
      example.prompt_ids.push_back((p * p * 5 + p * 29 + length * 11) % 97);
    }
    example.choice_ids = std::move(choices);
    example.answer = answer;
    example.segments = {{1, 2}, {3, 3}, {4, 5}};
    TokenizedExample corrupted = example;
    for (const int64_t p : {1, 2, 5}) {
      int64_t& id = corrupted.prompt_ids[static_cast<size_t>(p)];
      id = (id + 31 + p) % 97;
    }
    corrupted.answer = other;
    pairs.clean.push_back(std::move(example));
    pairs.corrupted.push_back(std::move(corrupted));
  };
  add(9, {{5}, {61}, {7}}, 0, 2);
  add(8, {{7, 8}, {7, 9, 10}, {11}}, 2, 0);  // rows of their own
  add(11, {{3}, {40}, {6}}, 1, 2);
  add(9, {{20}, {30}, {8}}, 2, 1);
  return pairs;
}

inline std::vector<PositionGroup> groups_of(const Objective& clean, const Objective& corrupted,
                                            const std::vector<std::string>& words) {
  return position_groups(clean, corrupted, words);
}

/// Right answer's log-probability and its difference to the corrupted run's, of one example.
struct PairScore {
  double logprob = 0, difference = 0;
};
/// Runs `prompt`'s prompt under a tap, judged by the answers of the pair.
inline PairScore run_pair(const LanguageModel& model, TokenizedExample prompt, int64_t right,
                          int64_t wrong, Tap* tap) {
  prompt.answer = right;
  const double first = evaluate(model, {prompt}, {16384, tap, {}}).logprob[0];
  prompt.answer = wrong;
  return {first, first - evaluate(model, {prompt}, {16384, tap, {}}).logprob[0]};
}

/// What the name of a cell's site is in the model.
inline std::string site_of_cell(const ModelConfig& config, const PatchCell& cell, PatchSite site) {
  const bool attention = cell.part == "attention";
  switch (site) {
    case PatchSite::Resid:
      return site_name({Site::ResidPre, cell.layer});
    case PatchSite::MixerOut:
      return site_name({attention ? Site::AttnOut : Site::MixerOut, cell.layer});
    case PatchSite::MlpOut:
      return site_name({Site::MlpOut, cell.layer});
    case PatchSite::Z:
      return site_name(place_of(config, *cell.head).point);
    case PatchSite::Pattern:
      return site_name({Site::Pattern, cell.layer});
    case PatchSite::Map:
      return site_name({Site::Map, cell.layer});
    case PatchSite::State:
      break;
  }
  return {};
}

/// `value` with what `donor` has at these positions (of map rows: queries) and own heads, entry by
/// entry; `share` of the way to it.
inline Tensor with_entries(const Tensor& value, const Tensor& donor,
                           const std::vector<int64_t>& positions, const PatchCell& cell,
                           const ModelConfig& config, bool is_map, double share) {
  Tensor out = value.clone();
  const auto take = [&](const Tensor& to, const Tensor& from) {
    to.copy_((1 - share) * to + share * from);
  };
  for (const int64_t p : positions) {
    if (!cell.head) {
      take(out.select(1, p), donor.select(1, p));
      continue;
    }
    const HeadId own = place_of(config, *cell.head).own;
    for (int64_t h = own.first; h <= own.last; ++h) {
      if (is_map) {
        take(out.select(1, h).select(1, p), donor.select(1, h).select(1, p));
      } else {
        take(out.select(1, p).select(1, h), donor.select(1, p).select(1, h));
      }
    }
  }
  return out;
}

/// One cell on one example with explicit hooks: record the donor, edit the run. `share` 1 patches.
inline PairScore patch_by_hooks(const LanguageModel& model, const TokenizedExample& run,
                                const TokenizedExample& donor, int64_t right, int64_t wrong,
                                const PatchCell& cell, PatchSite site,
                                const std::vector<int64_t>& positions, double share = 1) {
  const ModelConfig& config = model.config();
  const std::string name = site_of_cell(config, cell, site);
  Tensor recorded;
  HookSet record(config);
  record.add(name, [&](TapPoint, Tensor value) { return recorded = value; });
  run_pair(model, donor, right, wrong, &record);
  HookSet edit(config);
  const bool is_map = site == PatchSite::Pattern || site == PatchSite::Map;
  edit.add(name, [&](TapPoint, Tensor value) {
    std::vector<int64_t> where = positions;
    if (where.empty()) {
      for (int64_t p = 0; p < value.size(is_map ? 2 : 1); ++p) where.push_back(p);
    }
    return with_entries(value, recorded, where, cell, config, is_map, share);
  });
  const PairScore score = run_pair(model, run, right, wrong, &edit);
  edit.check_all_fired();
  return score;
}

/// The mean over all pairs of `score(pair index)`.
template <typename Score>
PairScore mean_score(size_t pairs, Score score) {
  PairScore sum;
  for (size_t i = 0; i < pairs; ++i) {
    const PairScore one = score(i);
    sum.logprob += one.logprob / static_cast<double>(pairs);
    sum.difference += one.difference / static_cast<double>(pairs);
  }
  return sum;
}

}  // namespace headlens::testing
