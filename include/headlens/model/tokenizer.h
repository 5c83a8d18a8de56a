// headlens/model: text to token ids and back, as a checkpoint's tokenizer file says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace headlens {

class TokenizerBody;

/// Turns text into token ids and back, exactly as a tokenizer.json of Hugging Face's `tokenizers`,
/// a SentencePiece model or Llama-3's tiktoken file says (docs/tokenizers.md). Cheap to copy:
/// copies share one immutable body. All methods may be called from any thread.
/// Of a tokenizer.json, models BPE and WordLevel. Letters newer than the Unicode of the linked
/// PCRE2 and utf8proc (14 and 15 in Debian 12) count as unassigned characters.
class Tokenizer {
 public:
  /// Reads a tokenizer.json or a .model file, or those of a directory: tokenizer.json first, else
  /// tokenizer.model. Throws ConfigError naming the file and the trait that is missing, malformed
  /// or not handled. "truncation" and "padding" are a batch's settings rather than the tokenizer's;
  /// they are ignored, as transformers does.
  static Tokenizer load(const std::filesystem::path& file_or_dir);

  /// The ids of a text. Added tokens that occur in the text are recognised, special ones too;
  /// `add_special_tokens` adds what the post-processor adds (BOS, EOS, ...).
  /// Throws UsageError if the text is not UTF-8.
  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens = false) const;

  /// The text of ids. Bytes that do not make up UTF-8 become U+FFFD. Ids that are in no vocabulary
  /// (the padding rows of an embedding) give no text, as with `tokenizers`.
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens = false) const;

  /// The token as the vocabulary spells it ("Ġthe"). Throws UsageError for an unknown id.
  std::string id_to_token(int64_t id) const;

  /// The id of a token as the vocabulary spells it, or nothing.
  std::optional<int64_t> token_to_id(std::string_view token) const;

  /// Number of distinct tokens, added tokens included. Ids may have gaps, and a model's embedding
  /// may have more rows.
  int64_t vocab_size() const;

 private:
  explicit Tokenizer(std::shared_ptr<const TokenizerBody> body);
  std::shared_ptr<const TokenizerBody> body_;
};

}  // namespace headlens
