// headlens/hooks: a tap that records sites by name or glob.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/hooks/activation_cache.h"
#include "headlens/hooks/hook_name.h"
#include "headlens/model/config.h"
#include "headlens/model/site.h"

namespace headlens {

/// What a recording may hold. What is made on a device stays there as long as there is room, then
/// goes to pinned memory of the host, then to a file without a name in `folder`, of which the
/// tensors recorded are views. Values are the same wherever they lie.
struct RecordBudget {
  int64_t device_bytes = 0;      ///< on all devices together; -1: no limit
  int64_t host_bytes = -1;       ///< -1: no limit
  std::filesystem::path folder;  ///< on a disk that has room
};

/// What of the recorded tensors is kept, and where.
struct RecordOptions {
  bool keep_grad = false;                 ///< default: tensors are detached from the graph
  std::optional<at::Device> device{};     ///< where to keep them; default: where they are made
  std::optional<at::ScalarType> dtype{};  ///< of floating-point tensors; default: as they are made
  /// Positions of this forward to keep along "pos" (maps: rows), negative from the end; empty: all.
  /// The map's rows are then made alone, never the whole of it. Logits: of those that are computed.
  std::vector<int64_t> positions{};
  std::optional<RecordBudget>
      budget{};  ///< default: no limit, and tensors stay where `device` says
};

class RecordSpill;

/// Records what a forward makes at each site that `patterns` name (hook_name.h). Patterns are
/// checked when the recorder is made: HookError for one that names nothing in this model. A second
/// forward replaces the tensors of the first. Not for use by two forwards at once.
class Recorder final : public Tap {
 public:
  /// For forwards of a model of this config.
  Recorder(const ModelConfig& config, const std::vector<std::string>& patterns,
           RecordOptions options = {});
  ~Recorder() override;

  /// What has been recorded. Tensors may share storage with the forward's own: do not write.
  const ActivationCache& cache() const { return cache_; }
  /// Hands the recording over and starts an empty one. HookError as `check_complete`.
  ActivationCache take();
  /// HookError naming the sites that were asked for and did not fire.
  void check_complete() const;

  bool wants(TapPoint point) const override;
  Tensor visit(TapPoint point, Tensor value) override;
  bool wants_map(TapPoint point) const override;
  void visit_map(TapPoint point, HeadMap& map) override;

 private:
  struct Item {
    NamedSite named;
    bool through_map = false;   // rows of the handle rather than the dense map
    int64_t position_dim = -1;  // where `positions` apply; -1: nowhere
  };
  void keep(const Item& item, Tensor value);

  std::vector<Item> items_;
  std::unordered_map<int64_t, std::vector<size_t>> at_point_;  // into items_
  RecordOptions options_;
  ActivationCache cache_;
  std::unique_ptr<RecordSpill> spill_;
};

/// Bytes that a recording of `patterns` holds for `batch` prompts of `pos` tokens, made by a model
/// of `dtype`. Storage that sites share is counted for each. HookError as the recorder's.
int64_t recording_bytes(const ModelConfig& config, const std::vector<std::string>& patterns,
                        int64_t batch, int64_t pos, at::ScalarType dtype = at::kFloat,
                        const RecordOptions& options = {});
/// Those of the largest tensor among them: it is whole in memory when it is made, wherever it goes.
int64_t largest_recorded_bytes(const ModelConfig& config, const std::vector<std::string>& patterns,
                               int64_t batch, int64_t pos, at::ScalarType dtype = at::kFloat,
                               const RecordOptions& options = {});

}  // namespace headlens
