// headlens/tasks: the words that made tasks choose from.
#pragma once

#include <span>
#include <string_view>

namespace headlens {

/// 256 common nouns in lower case, sorted and distinct. Their order is part of what a seed means.
std::span<const std::string_view> word_list();

}  // namespace headlens
