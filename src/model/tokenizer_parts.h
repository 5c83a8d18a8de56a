// headlens/model: how the parts of a tokenizer.json are read.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/json_fields.h"

namespace headlens {

/// One part of a tokenizer.json: an object that names its own "type".
struct PartSpec {
  JsonFields fields;
  std::string type;

  /// `where` is the file and the part's place, "tokenizer.json: decoder".
  PartSpec(const nlohmann::json& spec, const std::string& where)
      : fields(spec, where), type(fields.required<std::string>("type")) {}

  std::string where() const { return fields.where() + " (" + type + ")"; }

  /// Throws ConfigError: no such type, or none that is handled.
  [[noreturn]] void refuse(const std::string& known) const {
    HEADLENS_FAIL(ConfigError, "[{}] type, expected one of {}, got \"{}\", which is not handled",
                  fields.where(), known, type);
  }

  /// Calls f(item, where) for each entry of an array.
  template <typename F>
  void for_each(std::string_view key, F f) const {
    const nlohmann::json* items = fields.find(key);
    HEADLENS_CHECK(ConfigError, items != nullptr && items->is_array(),
                   "[{}] key '{}', expected an array, got {}", where(), key,
                   items == nullptr ? "nothing" : describe_json(*items));
    for (size_t i = 0; i < items->size(); ++i) {
      f((*items)[i], fields.where() + "[" + std::to_string(i) + "]");
    }
  }
};

/// How long parts of a tokenizer may make a text of `size` bytes, or tokens of as many together: a
/// row of small rewriting parts would else fill any memory. The longest honest growth is that of
/// NFKD, 11-fold, and of spelling bytes as characters, twofold.
inline size_t grown_limit(size_t size) {
  return 4096 + 64 * size;
}

/// Throws ConfigError where a part made a text longer than that.
inline void check_grown(size_t size, size_t most) {
  HEADLENS_CHECK(ConfigError, size <= most,
                 "[Tokenizer] a rewritten text, expected at most {} bytes (64 a byte of the text), "
                 "got {}; the tokenizer file multiplies what it is given",
                 most, size);
}

/// The text of a key that must hold exactly one character.
std::string read_one_char(const JsonFields& fields, std::string_view key);

}  // namespace headlens
