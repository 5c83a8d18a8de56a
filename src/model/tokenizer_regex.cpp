// headlens/model: the regular expressions of tokenizer.json, run by PCRE2.
#include "model/tokenizer_regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "core/check.h"
#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

struct Free {
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
template <typename T>
using Handle = std::unique_ptr<T, Free>;

constexpr size_t kMaxPattern = 8192;  // bytes; those of published tokenizers have some hundred

/// Fresh limits for a match in a text: an honest expression takes a few steps a byte (a long run of
/// spaces is tried from each), a hostile one exponentially many. Memory is the interpreter's.
pcre2_match_context* limits_for(size_t text_size) {
  constexpr uint64_t kSteps = 1'000'000, kStepsPerByte = 100, kKib = 65536, kBytesPerKib = 4;
  thread_local const Handle<pcre2_match_context> limits(pcre2_match_context_create(nullptr));
  const auto clip = [](uint64_t n) {
    return static_cast<uint32_t>(std::min<uint64_t>(n, UINT32_MAX));
  };
  pcre2_set_match_limit(limits.get(), clip(kSteps + kStepsPerByte * text_size));
  pcre2_set_heap_limit(limits.get(), clip(kKib + text_size / kBytesPerKib));
  return limits.get();
}

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 200> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

Handle<pcre2_code> compile(const std::string& pattern, const std::string& where) {
  HEADLENS_CHECK(ConfigError, pattern.size() <= kMaxPattern,
                 "[{}] regular expression, expected at most {} bytes, got {}", where, kMaxPattern,
                 pattern.size());
  const Handle<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  Handle<pcre2_code> code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                                        pattern.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE,
                                        &error, &offset, context.get()));
  HEADLENS_CHECK(ConfigError, code != nullptr,
                 "[{}] regular expression, expected one that compiles, got '{}' ({} at byte {})",
                 where, pattern, error_text(error), offset);
  return code;
}

pcre2_match_data* match_data() {
  thread_local const Handle<pcre2_match_data> data(pcre2_match_data_create(1, nullptr));
  return data.get();
}

}  // namespace

struct TokenRegex::Code {
  Handle<pcre2_code> code;
  bool jit = false;
};

TokenRegex TokenRegex::from_pcre2(const std::string& pattern, const std::string& where) {
  auto code = std::make_shared<Code>();
  code->code = compile(pattern, where);
  code->jit = pcre2_jit_compile(code->code.get(), PCRE2_JIT_COMPLETE) == 0;
  return TokenRegex(std::move(code));
}

TokenRegex::TokenRegex(std::string_view pattern, const std::string& where)
    : TokenRegex(from_pcre2(translate_regex(pattern, where), where)) {}

TokenRegex TokenRegex::from_literal(std::string_view text, const std::string& where) {
  std::string pattern;
  for (const char c : text) {
    const bool plain = static_cast<unsigned char>(c) >= 0x80 || isalnum(c) != 0;
    if (!plain) pattern += '\\';
    pattern += c;
  }
  return from_pcre2(pattern, where);
}

bool TokenRegex::search(std::string_view text, size_t from, size_t& begin, size_t& end) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  pcre2_match_context* const limits = limits_for(text.size());
  int result = PCRE2_ERROR_JIT_STACKLIMIT;
  if (code_->jit) {
    result = pcre2_jit_match(code_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                             match_data(), limits);
  }
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter's memory grows as it needs
    result = pcre2_match(code_->code.get(), subject, text.size(), from,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match_data(), limits);
  }
  if (result == PCRE2_ERROR_NOMATCH) return false;
  HEADLENS_CHECK(Error, result >= 0,
                 "[Tokenizer] regular expression, expected a match within the limits of steps and "
                 "memory, got: {}",
                 error_text(result));
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match_data());
  begin = bounds[0];
  end = bounds[1];
  return true;
}

void TokenRegex::cut(std::string_view text, std::vector<Piece>& pieces) const {
  size_t from = 0;
  size_t done = 0;
  std::optional<size_t> last_end;
  size_t begin = 0, end = 0;
  while (from <= text.size() && search(text, from, begin, end)) {
    if (begin == end && last_end == end) {  // an empty match right behind a match does not count
      if (from == text.size()) break;
      next_code_point(text, from);
      continue;
    }
    if (done < begin) pieces.push_back({done, begin, false});
    pieces.push_back({begin, end, true});
    from = done = end;
    last_end = end;
  }
  if (done < text.size()) pieces.push_back({done, text.size(), false});
}

}  // namespace headlens
