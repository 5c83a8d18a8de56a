// headlens/model: writing a model as a Hugging Face directory.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "headlens/core/dtype.h"
#include "headlens/model/config.h"

namespace headlens {

/// Writes `dir`/config.json and `dir`/model.safetensors (the directory is made if need be).
/// `weights` has the tensors under their checkpoint names, as `fresh_weights` gives them, and is
/// written in `config.dtype`. CheckpointError if a tensor of the config is missing, left over or
/// misshapen, or if writing fails.
void save_checkpoint(const std::filesystem::path& dir, const ModelConfig& config,
                     const std::map<std::string, Tensor>& weights);

}  // namespace headlens
