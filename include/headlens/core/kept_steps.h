// headlens/core: steps of a long run whose results outlive it, so that a killed one can go on.
#pragma once

#include <functional>
#include <string>

namespace headlens {

/// Gives the result of a step: what `compute` returns, or what it returned under this key before
/// the run was killed. A key must say all that tells a step from the others of its run. Empty:
/// nothing is kept.
using KeptSteps =
    std::function<std::string(const std::string& key, const std::function<std::string()>& compute)>;

/// The result of a step, kept where `steps` keeps any.
inline std::string kept_step(const KeptSteps& steps, const std::string& key,
                             const std::function<std::string()>& compute) {
  return steps ? steps(key, compute) : compute();
}

}  // namespace headlens
