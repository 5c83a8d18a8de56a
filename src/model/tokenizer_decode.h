// headlens/model: the decoders of tokenizer.json, which turn tokens back into text.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace headlens {

/// Rewrites a list of tokens; the text is what the last decoder leaves, joined. Immutable.
/// ConfigError where tokens become longer than they may.
class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;
  /// `most`: bytes that the tokens together may grow to.
  virtual void apply(std::vector<std::string>& tokens, size_t most) const = 0;
};

/// Bytes of all tokens together.
size_t bytes_of(const std::vector<std::string>& tokens);

/// Reads "decoder"; nullptr for null. Throws ConfigError naming a type that is not handled.
std::unique_ptr<const TokenDecoder> read_decoder(const nlohmann::json& spec,
                                                 const std::string& where);

}  // namespace headlens
