// headlens/core: the known word that a mistyped one is nearest to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace headlens {

/// " (did you mean 'kv'?)" if a known name is close to `name`, else "".
std::string suggestion(std::string_view name, const std::vector<std::string>& known);

/// Fewest letters to insert, drop, replace or swap with their neighbour to turn `a` into `b`.
int64_t edit_distance(std::string_view a, std::string_view b);

}  // namespace headlens
