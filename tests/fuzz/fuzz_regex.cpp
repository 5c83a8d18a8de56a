// headlens/tests: fuzzes the regular expressions of a tokenizer.json.
#include "fuzz_tools.h"
#include "model/tokenizer_regex.h"
#include "model/tokenizer_unicode.h"

/// The input: a pattern, a NUL, a text.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input = headlens::fuzz::view(data, size);
  const std::string_view pattern = input.substr(0, input.find('\0'));
  const std::string_view text = input.substr(std::min(pattern.size() + 1, input.size()));
  if (headlens::find_invalid_utf8(pattern) || headlens::find_invalid_utf8(text)) return -1;
  headlens::fuzz::only_errors([&] {
    const headlens::TokenRegex regex(pattern, "pattern");
    std::vector<headlens::Piece> pieces;
    regex.cut(text, pieces);
    size_t end = 0;
    for (const headlens::Piece& piece : pieces) {
      headlens::fuzz::require(piece.begin == end && piece.end >= end, "pieces without gaps");
      end = piece.end;
    }
    headlens::fuzz::require(end == text.size(), "pieces to the end");
  });
  return 0;
}
