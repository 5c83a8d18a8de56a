// headlens/analysis: the taps of path patching: keep sites, freeze them, patch one head's output.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "headlens/analysis/path_patching.h"
#include "headlens/analysis/types.h"
#include "headlens/model/config.h"
#include "headlens/model/site.h"

namespace headlens {

using SiteTensors = std::map<TapPoint, Tensor>;

/// Keeps the tensors of chosen sites.
class KeepSites final : public Tap {
 public:
  explicit KeepSites(std::set<TapPoint> points) : points_(std::move(points)) {}
  bool wants(TapPoint point) const override { return points_.contains(point); }
  Tensor visit(TapPoint point, Tensor value) override { return kept[point] = value; }

  SiteTensors kept;

 private:
  std::set<TapPoint> points_;
};

/// Puts given tensors in place of what sites have.
class PutSites final : public Tap {
 public:
  explicit PutSites(SiteTensors given) : given_(std::move(given)) {}
  bool wants(TapPoint point) const override { return given_.contains(point); }
  Tensor visit(TapPoint point, Tensor) override { return given_.at(point); }

 private:
  SiteTensors given_;
};

/// The mixer that a head belongs to, as path patching sees it.
struct MixerSitesOf {
  HeadBank bank;
  TapPoint written;               // what the mixer gives the residual: AttnOut or MixerOut
  std::vector<TapPoint> stores;   // inputs by which tokens are stored (ReceiverInputs::KeysValues)
  std::vector<TapPoint> asks;     // inputs by which they are asked for
  std::vector<TapPoint> outputs;  // where the outputs of one head are told from the others', in
                                  // the order of the forward

  std::vector<TapPoint> inputs() const;
};
MixerSitesOf mixer_sites(const ModelConfig& config, const HeadId& head, Placement placement);

/// Runs a mixer on given inputs, and lets each variant have the outputs of its own heads only: the
/// others' are the clean run's. Variants are blocks of rows.
class PatchHeads final : public Tap {
 public:
  /// `heads`: one for each variant, all of the mixer `sites`; `inputs` and `clean` for the rows of
  /// one variant, the latter at `sites.outputs`.
  PatchHeads(const MixerSitesOf& sites, const std::vector<HeadId>& heads, SiteTensors inputs,
             const SiteTensors& clean);
  bool wants(TapPoint point) const override {
    return inputs_.contains(point) || clean_.contains(point);
  }
  Tensor visit(TapPoint point, Tensor value) override;

 private:
  int64_t variants_;
  SiteTensors inputs_, clean_;
  Tensor mask_;  // bool [variant, head] on the CPU
};

}  // namespace headlens
