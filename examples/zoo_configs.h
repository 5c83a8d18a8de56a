// headlens/examples: the shapes of the bundled models.
#pragma once

#include <string_view>

#include "headlens/model/config.h"

namespace headlens::examples {

/// The config of a bundled model: transformer, llamba, mamba2, falcon-mamba or hybrid; or of a
/// variant: llamba-distilled, mamba2-state8, mamba2-state16. UsageError for another name.
ModelConfig zoo_config(std::string_view name);

}  // namespace headlens::examples
