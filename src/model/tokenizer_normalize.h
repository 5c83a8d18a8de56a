// headlens/model: the normalizers of tokenizer.json, which rewrite a text before it is cut.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "model/tokenizer_parts.h"

namespace headlens {

/// A text on its way through the normalizers.
struct NormalText {
  std::string text;  // valid UTF-8
  bool at_start;     // its first character comes from the start of the whole input
  size_t most = grown_limit(text.size());  // bytes it may grow to
};

/// Rewrites a text. Immutable.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(NormalText& text) const = 0;
};

/// Reads "normalizer"; nullptr for null. Throws ConfigError naming a type that is not handled.
std::unique_ptr<const Normalizer> read_normalizer(const nlohmann::json& spec,
                                                  const std::string& where);

}  // namespace headlens
