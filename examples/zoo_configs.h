// headlens/examples: the shapes of the bundled models.
#pragma once

#include <string_view>

#include "headlens/model/config.h"

namespace headlens::examples {

/// The config of a bundled model: transformer, llamba, mamba2, falcon-mamba or hybrid. UsageError
/// for another name.
ModelConfig zoo_config(std::string_view name);

}  // namespace headlens::examples
