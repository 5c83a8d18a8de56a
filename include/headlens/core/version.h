// headlens/core: which build this is.
#pragma once

#include <string_view>

namespace headlens {

/// "0.1.0".
std::string_view version();
/// Short git revision of the sources at configure time; empty outside a repository.
std::string_view git_revision();

}  // namespace headlens
