// headlens/hooks: interventions on what an MLP writes to the residual.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "headlens/hooks/interventions.h"

namespace headlens {

/// Replaces MLP outputs (Site::MlpOut) in chosen variants: variant v owns rows v * n .. (v + 1) * n
/// - 1 of the batch, as in VariantCuts.
class MlpIntervention final : public Intervention {
 public:
  /// `variants`: layer -> is its MLP cut, [variant], alike in length. `replacement` gets the
  /// outputs as [batch, pos, d_model, 1] and returns a tensor that broadcasts to that. `positions`
  /// as in HeadCutOptions. HookError for a layer that does not exist or has no MLP, or if nothing
  /// is cut.
  MlpIntervention(const ModelConfig& config, std::map<int64_t, std::vector<bool>> variants,
                  HeadReplacement replacement, Tensor positions = {});

  void check_touched() const override;
  void reset() override;
  bool wants(TapPoint point) const override;
  Tensor visit(TapPoint point, Tensor value) override;

 private:
  struct Layer {
    Tensor mask;  // bool [variant] on the CPU
    int64_t fired = 0;
    int64_t touched = 0;  // (row, position) outputs replaced
  };

  std::map<int64_t, Layer> layers_;
  HeadReplacement replacement_;
  Tensor positions_;
};

/// HookError "[ablate] MLP, expected a layer with one, got 3" unless each layer has an MLP.
void check_mlps(const ModelConfig& config, const std::vector<int64_t>& layers);

}  // namespace headlens
