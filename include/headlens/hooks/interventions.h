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

/// Heads first .. last of a layer, both included; for Mamba-1, channels.
struct HeadGroup {
  int64_t layer = 0;
  int64_t first = 0;
  int64_t last = 0;
  bool operator==(const HeadGroup&) const = default;
};

/// One head: a query head, an SSM head or, for Mamba-1, a channel.
struct HeadRef {
  int64_t layer = 0;
  int64_t head = 0;
  operator HeadGroup() const { return {layer, head, head}; }
  bool operator==(const HeadRef&) const = default;
};

enum class AblationMode { Zero, Mean, Resample, Scale };

/// Where a head is cut. PostNorm: its slice of the input of o_proj / out_proj. PreNorm: its scan
/// output with the D skip, before gate and norm, in Mamba-2 (where the norm then rescales its
/// neighbours) and DiscreteMamba2 (no norm: zeroing is the same at both places). Attention and
/// Mamba-1 have no such norm; PreNorm cuts them as PostNorm does.
enum class Placement { PostNorm, PreNorm };

/// The site where the heads of a layer are cut: Z, MixerZ or SsmOut. HookError if the layer does
/// not exist or has no heads.
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
  virtual void reset() = 0;
};

struct HeadCutOptions {
  Placement placement = Placement::PostNorm;
  /// bool [pos] or [batch, pos]: cut only there; undefined: at every position. With variants, [row,
  /// pos] is repeated for each of them.
  Tensor positions{};
  bool keep = false;  // cut all other heads of the layers named, not these
};

/// Different heads in different row blocks of one batch: variant v owns rows v * n .. (v + 1) * n -
/// 1, where n is the batch over the number of variants. An empty list leaves a variant of this
/// layer alone.
struct VariantCuts {
  int64_t layer = 0;
  std::vector<std::vector<HeadGroup>> heads;  // [variant]
};

/// What to put in place of the heads' outputs: gets those of the whole layer, [batch, pos, head,
/// width] (Mamba-1: width 1), returns a tensor that broadcasts to that. Only the chosen heads take
/// it over.
using HeadReplacement = std::function<Tensor(const Tensor& outputs, int64_t layer)>;

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
  struct Layer {
    TapPoint point;
    Tensor mask;            // bool [variant, head], on the CPU
    int64_t heads_cut = 0;  // of all variants
    int64_t fired = 0;
    int64_t touched = 0;  // (row, position, head) outputs replaced
  };
  Tensor covered(const Layer& layer, const Tensor& outputs) const;

  std::map<int64_t, Layer> layers_;
  HeadReplacement replacement_;
  HeadCutOptions options_;
};

using HeadList = std::vector<HeadGroup>;
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
/// activation patching.
InterventionPtr replace_heads(const ModelConfig& config, const HeadList& heads,
                              std::map<int64_t, Tensor> outputs,
                              const HeadCutOptions& options = {});
/// Puts in the same head's output in another row of the batch: row b gets that of row
/// permutation[b]. permutation: int64 [batch].
InterventionPtr resample_heads(const ModelConfig& config, const HeadList& heads, Tensor permutation,
                               const HeadCutOptions& options = {});
/// Sets different heads to 0 in different row blocks, in one pass.
InterventionPtr zero_variants(const ModelConfig& config, const std::vector<VariantCuts>& cuts,
                              const HeadCutOptions& options = {});

/// A tap that averages head outputs over a reference set, in float64, for `replace_heads`.
class MeanActivations final : public Tap {
 public:
  /// `layers` empty: every layer with heads.
  explicit MeanActivations(const ModelConfig& config, const std::vector<int64_t>& layers = {},
                           Placement placement = Placement::PostNorm);
  /// bool [batch, pos]: the positions of the next forwards that count (not padding); undefined:
  /// all.
  void set_valid(Tensor valid) { valid_ = std::move(valid); }
  /// layer -> [head, width] (Mamba-1: width 1), float64. HookError if a layer has seen no position.
  std::map<int64_t, Tensor> means() const;

  bool wants(TapPoint point) const override;
  Tensor visit(TapPoint point, Tensor value) override;

 private:
  struct Sum {
    TapPoint point;
    Tensor total;  // [head, width] float64
    int64_t count = 0;
  };
  std::map<int64_t, Sum> sums_;
  Tensor valid_;
};

/// Edits entries of a layer's map (model/head_map.h): knock-out, scaling, anything.
struct LayerMapEdit {
  int64_t layer = 0;
  MapEdit edit;
};

class MapIntervention final : public Intervention {
 public:
  /// HookError for a layer without a map or a head it has not.
  MapIntervention(const ModelConfig& config, std::vector<LayerMapEdit> edits);

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
