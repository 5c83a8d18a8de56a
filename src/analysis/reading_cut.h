// headlens/analysis: takes from a head what chosen positions read from chosen keys.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/analysis/types.h"
#include "headlens/model/config.h"
#include "headlens/model/objective.h"
#include "headlens/model/site.h"

namespace headlens {

/// Entries of a map in each row of a batch.
struct Readings {
  Tensor queries;  // [row, n] int64, each position at most once but for those that have no keys
  Tensor keys;     // bool [row, n, pos]
};

/// What positions from the last prompt token q on read from any segment.
Readings segments_from_query(const Objective& objective, const ObjectiveBatch& batch);

/// Subtracts sum_j M_ij x_j over the chosen entries from y_i of one head or group of channels: M
/// with these entries 0, softmax rows not made to sum to 1 again. Costs the rows it names.
/// HookError for a group over two mixers.
class ReadingCut final : public Tap {
 public:
  ReadingCut(const ModelConfig& config, const HeadId& head, Readings readings);

  bool wants_map(TapPoint point) const override { return point == map_; }
  void visit_map(TapPoint point, HeadMap& map) override;
  bool wants(TapPoint point) const override { return point == output_; }
  Tensor visit(TapPoint point, Tensor value) override;

 private:
  HeadId head_;  // by the numbers of its mixer
  Readings readings_;
  TapPoint map_, output_;
  Tensor read_;  // [row, n, head, width]
};

}  // namespace headlens
