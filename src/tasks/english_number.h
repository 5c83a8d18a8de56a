// headlens/tasks: numbers written in English words.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace headlens {

/// The first number in words of a lower-case text, as digits ("twenty three" gives "23"): the words
/// the harness's pattern takes together, read as its library for them does. Its quirks stay: six to
/// nine alone are not seen, "five seven ten" adds up to 5 x 7 + 10. Nothing where no words match,
/// and where that library gives up with an error ("thousand five").
std::optional<std::string> english_number(std::string_view text);

}  // namespace headlens
