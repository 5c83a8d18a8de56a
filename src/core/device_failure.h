// headlens/core: whether a GPU has stopped working in the middle of a run.
#pragma once

#include <string>

namespace headlens {

/// The first GPU in use by this process that answers with an error when it is only waited for, with
/// its words: "cuda:0: CUDA error: unspecified launch failure". That stays so: the process can do
/// nothing more on it, whatever error came up first. Empty where all in use answer, or none is.
std::string device_failure();

}  // namespace headlens
