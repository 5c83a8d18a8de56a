// headlens/model: normalizer, pre-tokenizer, model, decoder: the parts of a tokenizer.json at work.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "core/json_fields.h"
#include "model/tokenizer_added.h"
#include "model/tokenizer_body.h"
#include "model/tokenizer_decode.h"
#include "model/tokenizer_normalize.h"
#include "model/tokenizer_postprocess.h"
#include "model/tokenizer_pretokenize.h"
#include "model/tokenizer_words.h"

namespace headlens {

/// A tokenizer made of parts, as Hugging Face's `tokenizers` makes it.
class TokenizerPipeline : public TokenizerBody {
 public:
  struct Parts {
    std::unique_ptr<const Normalizer> normalizer;       // or nullptr
    std::unique_ptr<const PreTokenizer> pre_tokenizer;  // or nullptr
    std::unique_ptr<const WordModel> model;
    std::unique_ptr<const TokenDecoder> decoder;  // or nullptr
    nlohmann::json post_processor, added_tokens;  // as tokenizer.json has them
  };
  /// `file` opens the messages of ConfigErrors.
  TokenizerPipeline(Parts parts, const std::string& file);

  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const override;
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens) const override;
  const std::string* token(int64_t id) const override;
  std::optional<int64_t> id(std::string_view token) const override;
  int64_t vocab_size() const override;

 private:
  void encode_plain(std::string_view text, bool at_start, std::vector<int64_t>& ids) const;
  void encode_words(std::string text, bool at_start, std::vector<int64_t>& ids) const;

  Parts parts_;
  PostProcessor post_processor_;
  AddedTokens added_;
};

/// Reads a whole tokenizer.json. Throws ConfigError naming the file and what is wrong with it.
std::unique_ptr<const TokenizerBody> read_pipeline(const nlohmann::json& json,
                                                   const std::string& file);

}  // namespace headlens
