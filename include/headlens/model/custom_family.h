// headlens/model: a checkpoint family of one's own, handed to the loader.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "headlens/model/config.h"
#include "headlens/model/families.h"

namespace headlens {

/// A family that this library does not know, as a value for LoadOptions::family: nothing is
/// registered and nothing is global. Its layers are made of the mixers there are (layer_spec.h).
struct CustomFamily {
  std::string name = {};  ///< what ModelConfig::family says; not that of a built-in family
  /// The text of config.json -> the model's specs. It answers for keys that change the maths; what
  /// it throws passes through. Where keys are Llama's, `parse_model_config` of an edited text
  /// serves.
  std::function<ModelConfig(std::string_view config_json)> parse = {};
  TensorNames tensors = {};  ///< where its checkpoints keep their tensors
};

/// What `family` reads from a config.json, with `family` set to its name. ConfigError for a family
/// without a parser or with a built-in's name, and for specs no model can have: a size below 1,
/// heads that kv_heads (or groups) does not divide, a block without any part.
ModelConfig parse_model_config(std::string_view config_json, const CustomFamily& family,
                               std::string_view where = "config.json");

}  // namespace headlens
