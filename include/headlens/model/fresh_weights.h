// headlens/model: first weights: of a model that is to be trained, or run without any checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "headlens/core/dtype.h"
#include "headlens/model/config.h"
#include "headlens/model/language_model.h"

namespace headlens {

/// Spread of the first weights. What has a fixed rule (norms, A_log, D, biases) needs no option.
struct InitOptions {
  double std =
      0.02;  ///< of projection matrices; those that write to the residual get std / sqrt(2 layers)
  double embed_std = 0.02;  ///< of the embedding
  double head_std = 0.02;   ///< of lm_head, where it is not tied
  double dt_min = 1e-3;     ///< the first dt of SSM heads is log-uniform in [dt_min, dt_max]
  double dt_max = 0.1;      ///< its upper end
};

/// Every tensor the config asks for, under its checkpoint name, float32 on the CPU. The same seed
/// gives the same weights; each tensor depends on seed and name only. Train them in place: a model
/// built from the map
/// (`WeightScope::from_map`, float32, CPU) holds these very tensors.
///
/// Norms and D are 1; A_log is log(1 .. d_state) for Mamba-1 and log(uniform(1, 16)) for Mamba-2;
/// the bias of dt is the inverse softplus of a log-uniform draw; other biases are 0.
std::map<std::string, Tensor> fresh_weights(const ModelConfig& config, uint64_t seed,
                                            const InitOptions& options = {});

/// A model of the shape that `dir`/config.json gives, with such weights: no other file is read.
/// Each tensor is drawn in float32 by its device's own generator (a GPU's numbers are others than a
/// CPU's), on the first of the devices, and kept in the dtype that `load` would choose. The
/// fingerprint begins with "random-" and depends on config, seed and kind of device. ConfigError as
/// `load`.
LanguageModel random_model(const std::filesystem::path& dir, uint64_t seed,
                           const LoadOptions& options = {});

}  // namespace headlens
