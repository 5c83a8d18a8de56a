// headlens/model: what every kind of tokenizer file offers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace headlens {

/// The body of a Tokenizer, made from one file. Immutable but for caches; thread-safe.
class TokenizerBody {
 public:
  TokenizerBody() = default;
  virtual ~TokenizerBody() = default;
  TokenizerBody(const TokenizerBody&) = delete;
  TokenizerBody& operator=(const TokenizerBody&) = delete;

  /// The ids of a text, which is valid UTF-8.
  virtual std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const = 0;
  virtual std::string decode(std::span<const int64_t> ids, bool skip_special_tokens) const = 0;
  virtual const std::string* token(int64_t id) const = 0;  // nullptr if there is none
  virtual std::optional<int64_t> id(std::string_view token) const = 0;
  virtual int64_t vocab_size() const = 0;
};

}  // namespace headlens
