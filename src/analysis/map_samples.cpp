// headlens/analysis: whole maps of chosen heads over one prompt, for reports.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "analysis/map_groups.h"
#include "core/check.h"
#include "headlens/analysis/map_figures.h"
#include "headlens/hooks/interventions.h"
#include "headlens/model/head_map.h"

namespace headlens {
namespace {

/// Rows and keys that are kept of a head's map. A group takes as many maps as it has channels: as
/// much work as one map, but no fewer than 384 rows.
int64_t kept_rows(const HeadId& head, int64_t max_queries) {
  constexpr int64_t kLeast = 384;
  const auto channels = static_cast<double>(head.last - head.first + 1);
  const auto share = static_cast<int64_t>(static_cast<double>(max_queries) / std::sqrt(channels));
  return std::max(std::min(max_queries, kLeast), share);
}

/// Keeps the last rows and keys of the wanted heads' maps.
class SampleTap final : public Tap {
 public:
  SampleTap(const ModelConfig& config, const std::vector<HeadId>& heads, int64_t max_queries)
      : maps_(heads.size()) {
    for (size_t i = 0; i < heads.size(); ++i) {
      check_heads(config, {{heads[i].layer, heads[i].first, heads[i].last}});
      for (const MapGroup& group : map_groups(config, heads[i])) {
        wanted_[group.point].push_back(
            {i, group.heads, heads[i].last - heads[i].first + 1, kept_rows(heads[i], max_queries)});
      }
    }
  }
  int64_t end_layer() const { return wanted_.empty() ? 0 : wanted_.rbegin()->first.layer + 1; }
  const Tensor& map(size_t index) const { return maps_[index]; }  // [query, key] float32, CPU

  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override { return wanted_.contains(point); }

  void visit_map(TapPoint point, HeadMap& map) override {
    for (const Wanted& wanted : wanted_.at(point)) {
      const int64_t count = std::min(map.queries(), wanted.rows), first = map.queries() - count;
      Tensor sum;  // one channel at a time: a group of them may not fit
      for (const int64_t h : wanted.heads) {
        Tensor rows = map.block(first, count, {h})[0][0];  // [query, key]
        if (wanted.of > 1) rows = normalized_rows(rows, map.is_softmax());
        sum = sum.defined() ? sum + rows : rows;
      }
      sum = (sum.slice(1, first) / static_cast<double>(wanted.of)).to(at::kCPU, at::kFloat);
      Tensor& whole = maps_[wanted.index];
      whole = (whole.defined() ? whole + sum : sum).contiguous();
    }
  }

 private:
  struct Wanted {
    size_t index;                // into maps_
    std::vector<int64_t> heads;  // by the map's own numbers
    int64_t of;                  // heads of the whole group, of which these are the map's
    int64_t rows;                // at most
  };
  std::map<TapPoint, std::vector<Wanted>> wanted_;
  std::vector<Tensor> maps_;
};

Eigen::MatrixXf to_eigen(const Tensor& t) {
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return Eigen::Map<const RowMajor>(t.const_data_ptr<float>(), t.size(0), t.size(1));
}

/// The prompt's ids of one example, [1, pos].
Tensor ids_of(const Objective& objective, int64_t example) {
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const ObjectiveBatch& batch = objective.batch(b);
    const auto found = std::find(batch.examples.begin(), batch.examples.end(), example);
    if (found == batch.examples.end()) continue;
    const int64_t row = batch.example_rows[static_cast<size_t>(found - batch.examples.begin())];
    return batch.ids[row].slice(0, 0, objective.prompt(example).length).unsqueeze(0);
  }
  HEADLENS_FAIL(TaskError, "[map_samples] example, expected 0 to {}, got {}",
                objective.example_count() - 1, example);
}

}  // namespace

std::vector<MapSample> map_samples(const LanguageModel& model, const Objective& objective,
                                   int64_t example, const std::vector<HeadId>& heads,
                                   int64_t max_queries) {
  c10::NoGradGuard no_grad;
  HEADLENS_CHECK(UsageError, max_queries > 0,
                 "[map_samples] queries to keep, expected at least 1, got {}", max_queries);
  const Tensor ids = ids_of(objective, example);
  SampleTap tap(model.config(), heads, max_queries);
  const Tensor resid = model.embed(ids);
  model.run_layers(resid, 0, tap.end_layer(), &tap, nullptr, model.prompt_of(resid));
  const PromptInfo& prompt = objective.prompt(example);
  std::vector<MapSample> samples;
  for (size_t i = 0; i < heads.size(); ++i) {
    const int64_t first = std::max<int64_t>(0, prompt.length - kept_rows(heads[i], max_queries));
    MapSample sample;
    sample.head = heads[i];
    sample.first_position = first;
    const auto begin = prompt.tokens.begin() +
                       std::min<int64_t>(first, static_cast<int64_t>(prompt.tokens.size()));
    sample.tokens.assign(begin, prompt.tokens.end());
    for (size_t s = 0; s < prompt.segments.size(); ++s) {
      const auto [start, end] = prompt.segments[s];
      if (end < first) continue;
      if (static_cast<int64_t>(s) == prompt.target_segment) {
        sample.target_segment = static_cast<int64_t>(sample.segments.size());
      }
      sample.segments.emplace_back(std::max(start, first) - first, end - first);
    }
    sample.map = to_eigen(tap.map(i));
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace headlens
