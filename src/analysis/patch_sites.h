// headlens/analysis: where a site of activation patching is in a model, and the taps that patch it.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "headlens/analysis/patching.h"
#include "headlens/model/config.h"
#include "headlens/model/site.h"

namespace headlens {

/// A site in one layer: of the residual, of an MLP, or of one mixer.
struct PatchPlace {
  TapPoint point;                    // whose tensor is patched; of State: what the state adds to
  LayerKind kind = LayerKind::None;  // of the mixer
  std::string part;                  // as in PatchCell
  int64_t first_head = 0;            // the number of the mixer's first head in its layer
  int64_t head_count = 0;            // 0: a site without heads
  std::vector<HeadId> heads = {};    // to be patched, by the layer's numbers
  size_t first_cell = 0;             // of its cells in Patching::cells, group by group
};

/// By layer. Errors as of `patch_activations`.
std::map<int64_t, std::vector<PatchPlace>> patch_places(const ModelConfig& config,
                                                        const PatchOptions& options);
/// The sites to keep of both runs for a place.
std::vector<TapPoint> kept_points(const PatchPlace& place, PatchSite site);

/// Positions and heads that each variant of a batch takes over. bool [variant * row, pos, head];
/// one head for sites without.
using PatchMask = Tensor;

/// Puts the other run's tensor in place where the mask says. `donor` as the site has it, for the
/// rows of one variant.
class PatchTensor final : public Tap {
 public:
  PatchTensor(TapPoint point, Tensor donor, PatchMask mask)
      : point_(point), donor_(std::move(donor)), mask_(std::move(mask)) {}
  bool wants(TapPoint point) const override { return point == point_; }
  Tensor visit(TapPoint, Tensor value) override;

 private:
  TapPoint point_;
  Tensor donor_, mask_;
};

/// The same of a map's rows: positions are queries. `donor` is dense, [row, head, q, k]; only rows
/// and heads in the mask are made of the run's own.
class PatchRows final : public Tap {
 public:
  PatchRows(TapPoint point, Tensor donor, PatchMask mask)
      : point_(point), donor_(std::move(donor)), mask_(std::move(mask)) {}
  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override { return point == point_; }
  void visit_map(TapPoint point, HeadMap& map) override;

 private:
  TapPoint point_;
  Tensor donor_, mask_;
};

/// Adds a change, [variant * row, pos, head..], where the mask has the head.
class PatchSum final : public Tap {
 public:
  PatchSum(TapPoint point, Tensor change, PatchMask mask)
      : point_(point), change_(std::move(change)), mask_(std::move(mask)) {}
  bool wants(TapPoint point) const override { return point == point_; }
  Tensor visit(TapPoint, Tensor value) override;

 private:
  TapPoint point_;
  Tensor change_, mask_;
};

/// What a state-space head's output changes by at each position when its state as of position t
/// becomes the other run's: C_i exp(decays of t+1 .. i) (S'_t - S_t) for i > t, else 0. `run` and
/// `donor` have the sites of `kept_points`; t is int64 [row]. Returns [row, pos, head, d_head] or,
/// for Mamba-1, [row, pos, channel].
Tensor carried_change(const PatchPlace& place, const std::map<TapPoint, Tensor>& run,
                      const std::map<TapPoint, Tensor>& donor, const Tensor& t);

}  // namespace headlens
