// headlens/model: the "pattern" key of Split and Replace.
#pragma once

#include <string>

#include "core/json_fields.h"
#include "model/tokenizer_regex.h"

namespace headlens {

/// Reads {"String": text} or {"Regex": pattern} under the key "pattern".
inline TokenRegex read_pattern(const JsonFields& fields, const std::string& where) {
  const JsonFields pattern = fields.object("pattern");
  if (pattern.has("Regex")) return TokenRegex(pattern.required<std::string>("Regex"), where);
  return TokenRegex::from_literal(pattern.required<std::string>("String"), where);
}

}  // namespace headlens
