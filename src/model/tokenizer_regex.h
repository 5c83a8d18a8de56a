// headlens/model: the regular expressions of tokenizer.json, run by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace headlens {

/// A stretch of a text, in bytes, and whether a pattern matched it.
struct Piece {
  size_t begin = 0;
  size_t end = 0;
  bool match = false;
};

/// A pattern that cuts a text into matches and what lies between them. Immutable, thread-safe.
class TokenRegex {
 public:
  /// Compiles a pattern in the syntax tokenizer.json uses (Oniguruma's, Ruby flavour).
  /// Throws ConfigError, opening with `where`, if it is wrong or uses what PCRE2 cannot express.
  TokenRegex(std::string_view pattern, const std::string& where);

  /// A pattern that is already in PCRE2's syntax.
  static TokenRegex from_pcre2(const std::string& pattern, const std::string& where);
  /// A pattern that matches `text` itself.
  static TokenRegex from_literal(std::string_view text, const std::string& where);

  /// Appends the pieces of a valid UTF-8 text: in order, without gaps.
  void cut(std::string_view text, std::vector<Piece>& pieces) const;

 private:
  struct Code;
  explicit TokenRegex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  bool search(std::string_view text, size_t from, size_t& begin, size_t& end) const;

  std::shared_ptr<const Code> code_;
};

/// The same pattern in PCRE2's syntax (with UTF, UCP and MULTILINE). Throws ConfigError.
std::string translate_regex(std::string_view pattern, const std::string& where);

}  // namespace headlens
