// headlens/analysis: takes from a head what chosen positions read from chosen keys.
#include "analysis/reading_cut.h"

#include <ATen/ATen.h>

#include <numeric>

#include "analysis/batch_rows.h"
#include "core/check.h"
#include "headlens/hooks/reducers.h"
#include "headlens/model/head_map.h"

namespace headlens {
namespace {

std::vector<int64_t> heads_of(const HeadId& group) {
  std::vector<int64_t> heads(static_cast<size_t>(group.last - group.first + 1));
  std::iota(heads.begin(), heads.end(), group.first);
  return heads;
}

TapPoint output_of(TapPoint map) {
  return {map.site == Site::Pattern ? Site::Z : Site::Y, map.layer};
}

}  // namespace

Readings segments_from_query(const Objective& objective, const ObjectiveBatch& batch) {
  const int64_t pos = batch.ids.size(1);
  const Tensor first = query_of_rows(objective, batch).unsqueeze(1);  // [row, 1]
  const Tensor queries = first + at::arange(pos - first.min().item<int64_t>(), at::kLong);
  const Tensor exists = queries.lt(pos).unsqueeze(-1);  // shorter prompts have more after them
  return {queries.clamp_max(pos - 1),
          exists.logical_and(segments_of_rows(objective, batch).unsqueeze(1))};
}

ReadingCut::ReadingCut(const ModelConfig& config, const HeadId& head, Readings readings)
    : head_(head),
      readings_(std::move(readings)),
      map_(map_point(config, head.layer, head.first)),
      output_(output_of(map_)) {
  HEADLENS_CHECK(HookError, map_point(config, head.layer, head.last) == map_,
                 "[ablate] heads {}..{} of layer {}, expected those of one mixer, got two",
                 head.first, head.last, head.layer);
  const HeadBank bank = bank_of(config.layers[static_cast<size_t>(head.layer)], head.first);
  head_.first -= bank.first;
  head_.last -= bank.first;
}

void ReadingCut::visit_map(TapPoint, HeadMap& map) {
  const Tensor queries = readings_.queries.to(map.device());
  const Tensor rows = map.rows(queries, heads_of(head_));  // [row, head, n, key]
  const Tensor chosen = rows * readings_.keys.to(rows.options()).unsqueeze(1);
  const Tensor x = map.values().narrow(2, head_.first, rows.size(1)).to(rows.scalar_type());
  read_ = at::matmul(chosen, x.transpose(1, 2)).transpose(1, 2);
}

Tensor ReadingCut::visit(TapPoint, Tensor value) {
  Tensor out = value.clone();
  const Tensor heads = out.narrow(2, head_.first, read_.size(2));  // Mamba-1: [row, pos, channel]
  const Tensor read = value.dim() == 3 ? read_.squeeze(-1) : read_;
  Tensor index = readings_.queries.to(value.device());
  while (index.dim() < heads.dim()) index = index.unsqueeze(-1);
  heads.scatter_add_(1, index.expand_as(read), -read.to(value.scalar_type()));
  return out;
}

}  // namespace headlens
