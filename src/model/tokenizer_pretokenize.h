// headlens/model: the pre-tokenizers of tokenizer.json, which cut a text into words.
#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer_parts.h"

namespace headlens {

/// A word's bytes in a text.
struct Span {
  size_t begin = 0;
  size_t end = 0;
};

/// A text and the words it has been cut into so far: in order, none of them empty.
struct Words {
  std::string text;
  std::vector<Span> spans;
  bool at_start;  // a word that begins at byte 0 comes from the start of the whole input
  size_t most = grown_limit(text.size());  // bytes the text may grow to

  std::string_view view(const Span& span) const {
    return std::string_view(text).substr(span.begin, span.end - span.begin);
  }
};

/// Cuts words further, or rewrites them. Immutable.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Words& words) const = 0;
};

/// Reads "pre_tokenizer"; nullptr for null. Throws ConfigError naming a type that is not handled.
std::unique_ptr<const PreTokenizer> read_pre_tokenizer(const nlohmann::json& spec,
                                                       const std::string& where);

}  // namespace headlens
