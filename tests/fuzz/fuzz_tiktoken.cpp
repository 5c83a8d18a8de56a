// headlens/tests: fuzzes tiktoken vocabularies.
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "fuzz_tools.h"
#include "headlens/model/tokenizer.h"
#include "model/tokenizer_body.h"
#include "model/tokenizer_tiktoken.h"

namespace {

/// The 256 tokens of one byte that every such vocabulary has.
std::string byte_tokens() {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (unsigned byte = 0; byte < 256; ++byte) {
    out += fmt::format("{}{}== {}\n", kDigits[byte >> 2], kDigits[(byte & 3) << 4], byte);
  }
  return out;
}

}  // namespace

/// The input: lines that follow those tokens; behind a '!', a whole file.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  static const std::string first = byte_tokens();
  const std::string_view input = headlens::fuzz::view(data, size);
  const std::string file =
      input.starts_with('!') ? std::string(input.substr(1)) : first + std::string(input);
  const auto lines = std::count(file.begin(), file.end(), '\n');
  scratch.write("config.json", fmt::format("{{\"vocab_size\": {}}}", lines + 256));
  headlens::looks_like_tiktoken(file);
  headlens::fuzz::only_errors([&] {
    const auto tokenizer = headlens::read_tiktoken(file, scratch.path("tokenizer.model"));
    const auto ids = tokenizer->encode("Hello  world\n\xF0\x9F\x98\x80<|eot_id|>", true);
    tokenizer->decode(ids, false);
  });
  return 0;
}
