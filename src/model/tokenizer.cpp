// headlens/model: text to token ids and back, as a checkpoint's tokenizer.json says.
#include "headlens/model/tokenizer.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/json_fields.h"
#include "model/tokenizer_added.h"
#include "model/tokenizer_decode.h"
#include "model/tokenizer_normalize.h"
#include "model/tokenizer_postprocess.h"
#include "model/tokenizer_pretokenize.h"
#include "model/tokenizer_unicode.h"
#include "model/tokenizer_words.h"

namespace headlens {
namespace {

const nlohmann::json& value_or_null(const JsonFields& fields, std::string_view key) {
  static const nlohmann::json null;
  const nlohmann::json* value = fields.find(key);
  return value == nullptr ? null : *value;
}

}  // namespace

struct Tokenizer::Impl {
  Impl(const JsonFields& fields, const std::string& file);

  void encode(std::string_view text, std::vector<int64_t>& ids) const;
  void encode_plain(std::string_view text, bool at_start, std::vector<int64_t>& ids) const;
  void encode_words(std::string text, bool at_start, std::vector<int64_t>& ids) const;

  std::unique_ptr<const Normalizer> normalizer;
  std::unique_ptr<const PreTokenizer> pre_tokenizer;
  std::unique_ptr<const WordModel> model;
  std::unique_ptr<const TokenDecoder> decoder;
  PostProcessor post_processor;
  AddedTokens added;
};

Tokenizer::Impl::Impl(const JsonFields& fields, const std::string& file)
    : normalizer(read_normalizer(value_or_null(fields, "normalizer"), file + ": normalizer")),
      pre_tokenizer(
          read_pre_tokenizer(value_or_null(fields, "pre_tokenizer"), file + ": pre_tokenizer")),
      model(read_word_model(fields.object("model"), file + ": model")),
      decoder(read_decoder(value_or_null(fields, "decoder"), file + ": decoder")),
      post_processor(value_or_null(fields, "post_processor"), file + ": post_processor"),
      added(value_or_null(fields, "added_tokens"), model->vocab(), normalizer.get(),
            file + ": added_tokens") {
  const auto version = fields.optional<std::string>("version", "1.0");
  HEADLENS_CHECK(ConfigError, version == "1.0", "[{}] key 'version', expected 1.0, got {}", file,
                 version);
  fields.ignore({"truncation", "padding"});
  fields.check_all_read();
}

void Tokenizer::Impl::encode(std::string_view text, std::vector<int64_t>& ids) const {
  std::vector<TextPart> parts;
  added.split(text, /*normalized=*/false, parts);
  for (const TextPart& part : parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      encode_plain(text.substr(part.begin, part.end - part.begin), part.begin == 0, ids);
    }
  }
}

void Tokenizer::Impl::encode_plain(std::string_view text, bool at_start,
                                   std::vector<int64_t>& ids) const {
  NormalText normal{std::string(text), at_start};
  if (normalizer != nullptr) normalizer->apply(normal);
  std::vector<TextPart> parts;
  added.split(normal.text, /*normalized=*/true, parts);
  if (parts.size() == 1 && parts[0].id < 0) {
    return encode_words(std::move(normal.text), normal.at_start, ids);
  }
  for (const TextPart& part : parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      encode_words(normal.text.substr(part.begin, part.end - part.begin),
                   normal.at_start && part.begin == 0, ids);
    }
  }
}

void Tokenizer::Impl::encode_words(std::string text, bool at_start,
                                   std::vector<int64_t>& ids) const {
  const size_t size = text.size();
  Words words{std::move(text), {{0, size}}, at_start};
  if (pre_tokenizer != nullptr) pre_tokenizer->apply(words);
  for (const Span& span : words.spans) model->encode(words.view(span), ids);
}

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& file_or_dir) {
  const bool in_directory = std::filesystem::is_directory(file_or_dir);
  const auto path = in_directory ? file_or_dir / "tokenizer.json" : file_or_dir;
  const JsonFields fields(read_json_file(path), path.string());
  return Tokenizer(std::make_shared<const Impl>(fields, path.string()));
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  const std::optional<size_t> bad = find_invalid_utf8(text);
  HEADLENS_CHECK(UsageError, !bad,
                 "[Tokenizer::encode] text, expected UTF-8, got byte 0x{:02X} at {}",
                 static_cast<uint8_t>(text[*bad]), *bad);
  std::vector<int64_t> ids;
  ids.reserve(text.size() / 3 + 8);
  impl_->encode(text, ids);
  return impl_->post_processor.apply(std::move(ids), add_special_tokens);
}

std::string Tokenizer::decode(std::span<const int64_t> ids, bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int64_t id : ids) {
    const std::string* token = impl_->added.decoded(id);
    if (token == nullptr) token = impl_->model->vocab().token(id);
    if (token == nullptr) continue;
    if (skip_special_tokens && impl_->added.is_special(*token)) continue;
    tokens.push_back(*token);
  }
  if (impl_->decoder != nullptr) impl_->decoder->apply(tokens);
  std::string text;
  for (const std::string& token : tokens) {
    if (impl_->decoder == nullptr && &token != &tokens[0]) text += ' ';
    text += token;
  }
  return text;
}

std::string Tokenizer::id_to_token(int64_t id) const {
  const std::string* token = impl_->added.content(id);
  if (token == nullptr) token = impl_->model->vocab().token(id);
  HEADLENS_CHECK(UsageError, token != nullptr,
                 "[Tokenizer::id_to_token] id, expected one of the vocabulary, got {}", id);
  return *token;
}

std::optional<int64_t> Tokenizer::token_to_id(std::string_view token) const {
  const std::optional<int64_t> id = impl_->added.id(token);
  return id ? id : impl_->model->vocab().id(token);
}

int64_t Tokenizer::vocab_size() const {
  const auto& own = impl_->model->vocab();
  const auto& added = impl_->added.ids();
  const auto extra = std::count_if(added.begin(), added.end(),
                                   [&](const auto& entry) { return !own.id(entry.first); });
  return static_cast<int64_t>(own.size()) + extra;
}

}  // namespace headlens
