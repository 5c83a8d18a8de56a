// headlens/core: shell-style matching of names.
#pragma once

#include <string_view>

namespace headlens {

/// Whether the whole of `text` matches `pattern`: `*` any run of characters (dots too), `?` any
/// one, `[a-c]` one of a set, `[!a-c]` one not in it. A '[' that is never closed is literal.
bool glob_match(std::string_view pattern, std::string_view text);

}  // namespace headlens
