// headlens/hooks: interventions on heads, named by (layer, head), and on entries of their maps.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/model/config.h"
#include "headlens/model/head_map.h"
#include "headlens/model/objective.h"
#include "headlens/model/site.h"

namespace headlens {

/// Heads first .. last of a layer, both included; for Mamba-1, channels. A layer of two mixers
/// numbers them through both (model/config.h).
struct HeadGroup {
  int64_t layer = 0;  ///< from 0
  int64_t first = 0;  ///< by the layer's numbers
  int64_t last = 0;   ///< included
  bool operator==(const HeadGroup&) const = default;
};

/// One head: a query head, an SSM head or, for Mamba-1, a channel.
struct HeadRef {
  int64_t layer = 0;                                          ///< from 0
  int64_t head = 0;                                           ///< by the layer's numbers
  operator HeadGroup() const { return {layer, head, head}; }  ///< of one
  bool operator==(const HeadRef&) const = default;
};

/// What a head's output becomes: 0, its mean, another example's, or itself times a factor.
enum class AblationMode {
  Zero,      ///< 0
  Mean,      ///< the mean over prompts
  Resample,  ///< that of another prompt
  Scale      ///< times a factor
};

/// Where a head is cut. PostNorm: its slice of the input of o_proj / out_proj. PreNorm: its scan
/// output with the D skip, before gate and norm, in Mamba-2 (where the norm then rescales its
/// neighbours) and DiscreteMamba2 (no norm: zeroing is the same at both places). Attention and
/// Mamba-1 have no such norm; PreNorm cuts them as PostNorm does.
enum class Placement {
  PostNorm,  ///< at the input of o_proj / out_proj
  PreNorm    ///< at the scan's output
};

/// The sites where the heads of a layer are cut, Z, MixerZ or SsmOut: one for each of `head_banks`.
/// HookError if the layer does not exist or has no heads.
std::vector<TapPoint> head_output_points(const ModelConfig& config, int64_t layer,
                                         Placement placement = Placement::PostNorm);
/// That of one head, whose outputs are there under its number less its bank's first. HookError also
/// for a head that the layer has not.
TapPoint head_output_point(const ModelConfig& config, int64_t layer, int64_t head,
                           Placement placement = Placement::PostNorm);
/// That of all heads of a layer with one mixer; HookError for one with two.
TapPoint head_output_point(const ModelConfig& config, int64_t layer,
                           Placement placement = Placement::PostNorm);
/// HookError "[ablate] head, expected 0..7 in layer 3, got 9" unless the model has all of `heads`.
void check_heads(const ModelConfig& config, const std::vector<HeadGroup>& heads);
/// In the layers that `heads` name, the heads it does not name, as runs.
std::vector<HeadGroup> other_heads(const ModelConfig& config, const std::vector<HeadGroup>& heads);

/// A tap that changes a forward and can tell whether it did.
class Intervention : public Tap {
 public:
  /// HookError naming the layers whose site never fired or where no entry was covered, since the
  /// start or `reset`.
  virtual void check_touched() const = 0;
  virtual void reset() = 0;  ///< forgets what was touched
};

/// Where and when heads are cut.
struct HeadCutOptions {
  Placement placement = Placement::PostNorm;  ///< where
  /// bool [pos] or [batch, pos]: cut only there; undefined: at every position. With variants, [row,
  /// pos] is repeated for each of them.
  Tensor positions{};
  bool keep = false;  ///< cut all other heads of the layers named (of all their mixers), not these
};

/// Different heads in different row blocks of one batch: variant v owns rows v * n .. (v + 1) * n -
/// 1, where n is the batch over the number of variants. An empty list leaves a variant of this
/// layer alone.
struct VariantCuts {
  int64_t layer = 0;                          ///< each at most once
  std::vector<std::vector<HeadGroup>> heads;  ///< [variant]
};

/// Head outputs, by the site where they are cut.
using HeadOutputs = std::map<TapPoint, Tensor>;

/// What to put in place of the heads' outputs: gets those of all heads of one mixer, [batch, pos,
/// head, width] (Mamba-1: width 1), and their site; returns a tensor that broadcasts to that. Only
/// the chosen heads take it over.
using HeadReplacement = std::function<Tensor(const Tensor& outputs, TapPoint point)>;

/// Replaces the outputs of chosen heads. Made by the functions below.
class HeadIntervention final : public Intervention {
 public:
  /// Every layer at most once, all with the same number of variants. HookError for heads the model
  /// has not, or if no head is named at all.
  HeadIntervention(const ModelConfig& config, const std::vector<VariantCuts>& cuts,
                   HeadReplacement replacement, HeadCutOptions options = {});

  void check_touched() const override;
  void reset() override;
  bool wants(TapPoint point) const override;
  Tensor visit(TapPoint point, Tensor value) override;

 private:
  /// The heads of one mixer.
  struct Bank {
    Tensor mask;            // bool [variant, head], on the CPU
    int64_t heads_cut = 0;  // of all variants
    int64_t fired = 0;
    int64_t touched = 0;  // (row, position, head) outputs replaced
  };
  Tensor covered(const Bank& bank, const Tensor& outputs) const;

  std::map<TapPoint, Bank> banks_;
  HeadReplacement replacement_;
  HeadCutOptions options_;
};

/// Heads of any layers.
using HeadList = std::vector<HeadGroup>;
/// Shared, so that a HookSet can hold it.
using InterventionPtr = std::shared_ptr<HeadIntervention>;

/// The same heads in every row of the batch, as VariantCuts of one variant each.
std::vector<VariantCuts> cuts_of(const HeadList& heads);

/// Sets the outputs to 0.
InterventionPtr zero_heads(const ModelConfig& config, const HeadList& heads,
                           const HeadCutOptions& options = {});
/// Multiplies the outputs by `factor`.
InterventionPtr scale_heads(const ModelConfig& config, const HeadList& heads, double factor,
                            const HeadCutOptions& options = {});
/// Puts in given outputs, layer -> [head, width], [batch, pos, head, width], or as the site has it
/// (Mamba-1: [batch, pos, channel]). With means: mean ablation; with another run's recording:
/// activation patching. For layers of one mixer; the second way is for all.
InterventionPtr replace_heads(const ModelConfig& config, const HeadList& heads,
                              std::map<int64_t, Tensor> outputs,
                              const HeadCutOptions& options = {});
/// The same by site, for layers of two mixers too.
InterventionPtr replace_heads(const ModelConfig& config, const HeadList& heads, HeadOutputs outputs,
                              const HeadCutOptions& options = {});
/// Puts in the same head's output in another row of the batch: row b gets that of row
/// permutation[b]. permutation: int64 [batch].
InterventionPtr resample_heads(const ModelConfig& config, const HeadList& heads, Tensor permutation,
                               const HeadCutOptions& options = {});
/// Sets different heads to 0 in different row blocks, in one pass.
InterventionPtr zero_variants(const ModelConfig& config, const std::vector<VariantCuts>& cuts,
                              const HeadCutOptions& options = {});

/// Edits entries of a layer's map (model/head_map.h): knock-out, scaling, anything. Heads are
/// numbered as the layer has them, in `edit.heads` and in what `edit.custom` is told; without any,
/// the maps of all its mixers are edited.
struct LayerMapEdit {
  int64_t layer = 0;  ///< from 0
  MapEdit edit;       ///< what changes
};

/// Queues edits on the maps of chosen layers in every forward.
class MapIntervention final : public Intervention {
 public:
  /// HookError for a layer without a map or a head it has not.
  MapIntervention(const ModelConfig& config, const std::vector<LayerMapEdit>& edits);

  void check_touched() const override;
  void reset() override;
  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override;
  void visit_map(TapPoint point, HeadMap& map) override;

 private:
  struct Item {
    TapPoint point;
    MapEdit edit;
    int64_t fired = 0;
    int64_t touched = 0;  // entries on or below the diagonal that the edit covers
  };
  std::vector<Item> items_;
};

/// bool [length], true at `positions` (negative: from the end). ShapeError for one out of range.
Tensor mask_of_positions(int64_t length, const std::vector<int64_t>& positions);
/// bool [length], true inside the segments (both ends included). ShapeError for one out of range.
Tensor mask_of_segments(int64_t length, const std::vector<PromptSegment>& segments);

}  // namespace headlens
