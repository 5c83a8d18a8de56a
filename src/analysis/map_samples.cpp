// headlens/analysis: whole maps of chosen heads over one prompt, for reports.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>

#include "core/check.h"
#include "headlens/analysis/map_figures.h"
#include "headlens/model/head_map.h"

namespace headlens {
namespace {

/// Copies the last `max_queries` rows and keys of the wanted heads' maps.
class SampleTap final : public Tap {
 public:
  SampleTap(const std::vector<HeadId>& heads, int64_t max_queries) : max_queries_(max_queries) {
    for (size_t i = 0; i < heads.size(); ++i) wanted_[heads[i].layer].emplace_back(i, heads[i]);
    maps_.resize(heads.size());
  }
  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override { return wanted_.contains(point.layer); }

  void visit_map(TapPoint point, HeadMap& map) override {
    const int64_t count = std::min(map.queries(), max_queries_), first = map.queries() - count;
    for (const auto& [index, head] : wanted_.at(point.layer)) {
      std::vector<int64_t> members;
      for (int64_t h = head.first; h <= head.last; ++h) members.push_back(h);
      Tensor rows = map.block(first, count, members).select(0, 0);  // [head, row, key]
      if (members.size() > 1) rows = normalized_rows(rows, map.is_softmax());
      maps_[index] =
          rows.mean(0).slice(1, map.first_query() + first).to(at::kCPU, at::kFloat).contiguous();
    }
  }

  const Tensor& map(size_t index) const { return maps_[index]; }

 private:
  std::map<int64_t, std::vector<std::pair<size_t, HeadId>>> wanted_;
  std::vector<Tensor> maps_;
  int64_t max_queries_;
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
  const Tensor ids = ids_of(objective, example);
  SampleTap tap(heads, max_queries);
  model.run_layers(model.embed(ids.to(model.device())), 0, model.layer_count(), &tap);
  const PromptInfo& prompt = objective.prompt(example);
  const int64_t first = std::max<int64_t>(0, prompt.length - max_queries);
  std::vector<MapSample> samples;
  for (size_t i = 0; i < heads.size(); ++i) {
    MapSample sample;
    sample.head = heads[i];
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
