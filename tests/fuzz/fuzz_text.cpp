// headlens/tests: fuzzes texts and ids that are given to tokenizers of every kind.
#include <cstring>

#include "fuzz_tools.h"
#include "headlens/model/tokenizer.h"

namespace {

std::vector<headlens::Tokenizer> load_all() {
  headlens::set_log_level(headlens::LogLevel::Off);
  std::vector<headlens::Tokenizer> all;
  for (const char* name :
       {"gpt2.json", "llama3.json", "falcon.json", "sentencepiece.json", "metaspace_first.json",
        "added_tokens.json", "normalizer_NFKC.json", "normalizer_StripAccents.json",
        "pre_BertPreTokenizer.json", "unknown_fused.json", "models/llama", "models/gemma",
        "models/unigram", "models/phrases", "models/tiktoken_llama3"}) {
    all.push_back(headlens::Tokenizer::load(headlens::fuzz::data_folder() / "tokenizers" / name));
  }
  return all;
}

}  // namespace

/// The input: which tokenizer, and a text whose bytes are ids as well.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<headlens::Tokenizer> tokenizers = load_all();
  if (size == 0) return 0;
  const headlens::Tokenizer& tokenizer = tokenizers[data[0] % tokenizers.size()];
  const std::string_view text = headlens::fuzz::view(data + 1, size - 1);
  headlens::fuzz::only_errors([&] {
    for (const int64_t id : tokenizer.encode(text, /*add_special_tokens=*/true)) {
      headlens::fuzz::require(!tokenizer.id_to_token(id).empty(), "an id of the vocabulary");
    }
  });
  std::vector<int64_t> ids(text.begin(), text.end());
  if (size > sizeof(int64_t)) {
    ids.emplace_back();
    std::memcpy(&ids.back(), data + 1, sizeof(int64_t));
  }
  headlens::fuzz::only_errors([&] { tokenizer.decode(ids); });
  return 0;
}
