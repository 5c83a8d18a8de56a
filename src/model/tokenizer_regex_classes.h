// headlens/model: what Oniguruma's named character classes hold, in PCRE2's words.
#pragma once

#include <string>
#include <string_view>

namespace headlens {

// Each text stands between the brackets of a bracket expression.
inline constexpr std::string_view kSpaceClass = "\\p{White_Space}";
inline constexpr std::string_view kDigitClass = "\\p{Nd}";
inline constexpr std::string_view kHexClass = "0-9a-fA-F";
inline constexpr std::string_view kWordClass = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
/// \w outside brackets: there Oniguruma asks a Latin-1 table that counts ² ³ ¹ ¼ ½ ¾ as well.
inline constexpr std::string_view kLoneWordClass =
    "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\xb2\\xb3\\xb9\\xbc-\\xbe";

/// The members of \p{name}; a name that is not known here is left to PCRE2.
std::string property_class(std::string_view name, const std::string& where);

/// The members of [:name:], or nothing if it is not known.
std::string_view posix_class(std::string_view name);

}  // namespace headlens
