// headlens/tests: fuzzes tokenizer.json, and what such a tokenizer does to a text.
#include <string>

#include "fuzz_tools.h"
#include "headlens/model/tokenizer.h"

namespace {

constexpr char kText[] =
    "Hello  w\xC3\xB6rld, it's 12\n\n<s>\xE2\x96\x81 \xEF\xB7\xBA\xF0\x9F\x98\x80";

}  // namespace

/// The input: a tokenizer.json and, behind a NUL, another text to encode.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  const std::string_view input = headlens::fuzz::view(data, size);
  const std::string_view json = input.substr(0, input.find('\0'));
  headlens::fuzz::only_errors([&] {
    const auto tokenizer = headlens::Tokenizer::load(scratch.write("tokenizer.json", json));
    for (const std::string_view text :
         {std::string_view(kText), input.substr(std::min(json.size() + 1, input.size()))}) {
      headlens::fuzz::only_errors([&] {
        const auto ids = tokenizer.encode(text, /*add_special_tokens=*/true);
        tokenizer.decode(ids);
        tokenizer.decode(ids, /*skip_special_tokens=*/true);
      });
    }
    tokenizer.token_to_id("<s>");
    headlens::fuzz::require(tokenizer.vocab_size() >= 0, "a vocabulary's size");
  });
  return 0;
}
