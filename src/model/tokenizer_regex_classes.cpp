// headlens/model: what Oniguruma's named character classes hold, in PCRE2's words.
#include "model/tokenizer_regex_classes.h"

#include <cctype>

#include "core/check.h"
#include "model/tokenizer_regex.h"

namespace headlens {
namespace {

struct NamedClass {
  std::string_view name;     // lower case, without spaces, '_' and '-'
  std::string_view members;  // what stands between brackets
};
constexpr NamedClass kProperties[] = {{"letter", "\\p{L}"},
                                      {"uppercaseletter", "\\p{Lu}"},
                                      {"lowercaseletter", "\\p{Ll}"},
                                      {"titlecaseletter", "\\p{Lt}"},
                                      {"modifierletter", "\\p{Lm}"},
                                      {"otherletter", "\\p{Lo}"},
                                      {"mark", "\\p{M}"},
                                      {"nonspacingmark", "\\p{Mn}"},
                                      {"spacingmark", "\\p{Mc}"},
                                      {"number", "\\p{N}"},
                                      {"decimalnumber", "\\p{Nd}"},
                                      {"letternumber", "\\p{Nl}"},
                                      {"othernumber", "\\p{No}"},
                                      {"punctuation", "\\p{P}"},
                                      {"punct", "\\p{P}"},
                                      {"symbol", "\\p{S}"},
                                      {"mathsymbol", "\\p{Sm}"},
                                      {"currencysymbol", "\\p{Sc}"},
                                      {"separator", "\\p{Z}"},
                                      {"spaceseparator", "\\p{Zs}"},
                                      {"other", "\\p{C}"},
                                      {"control", "\\p{Cc}"},
                                      {"cntrl", "\\p{Cc}"},
                                      {"any", "\\p{Any}"},
                                      {"alpha", "\\p{Alphabetic}"},
                                      {"digit", "\\p{Nd}"},
                                      {"space", kSpaceClass},
                                      {"upper", "\\p{Uppercase}"},
                                      {"lower", "\\p{Lowercase}"},
                                      {"word", kWordClass},
                                      {"alnum", "\\p{Alphabetic}\\p{Nd}"},
                                      {"xdigit", kHexClass}};
constexpr NamedClass kPosix[] = {
    {"alpha", "\\p{Alphabetic}"}, {"digit", "\\p{Nd}"},        {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"space", kSpaceClass},       {"upper", "\\p{Uppercase}"}, {"lower", "\\p{Lowercase}"},
    {"punct", "\\p{P}\\p{S}"},    {"word", kWordClass},        {"xdigit", kHexClass},
    {"cntrl", "\\p{Cc}"}};

}  // namespace

std::string property_class(std::string_view name, const std::string& where) {
  std::string plain;
  for (const char c : name) {
    if (c != ' ' && c != '_' && c != '-') {
      plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  for (const NamedClass& known : kProperties) {
    if (known.name == plain) return std::string(known.members);
  }
  if (plain.size() <= 2) return fmt::format("\\p{{{}}}", name);
  try {  // PCRE2's \p{Han} means the script's extensions too
    std::string script = fmt::format("\\p{{sc:{}}}", name);
    TokenRegex::from_pcre2(script, where);
    return script;
  } catch (const ConfigError&) {
    return fmt::format("\\p{{{}}}", name);
  }
}

std::string_view posix_class(std::string_view name) {
  for (const NamedClass& known : kPosix) {
    if (known.name == name) return known.members;
  }
  return {};
}

}  // namespace headlens
