// headlens/tests: fuzzes SentencePiece models, by our reader and by the library.
#include "fuzz_tools.h"
#include "headlens/model/tokenizer.h"
#include "model/tokenizer_body.h"
#include "model/tokenizer_sentencepiece.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  headlens::fuzz::only_errors([&] {
    const auto tokenizer = headlens::read_sentencepiece(headlens::fuzz::view(data, size),
                                                        scratch.path("tokenizer.model"));
    for (const char* text :
         {"Hello  world, it's 12\n", " \xEF\xBC\xA1\xE2\x96\x81\xF0\x9F\x98\x80"}) {
      const auto ids = tokenizer->encode(text, /*add_special_tokens=*/true);
      tokenizer->decode(ids, /*skip_special_tokens=*/false);
    }
  });
  return 0;
}
