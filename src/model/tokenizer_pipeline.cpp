// headlens/model: normalizer, pre-tokenizer, model, decoder: the parts of a tokenizer.json at work.
#include "model/tokenizer_pipeline.h"

#include <algorithm>
#include <utility>

namespace headlens {
namespace {

const nlohmann::json& value_or_null(const JsonFields& fields, std::string_view key) {
  static const nlohmann::json null;
  const nlohmann::json* value = fields.find(key);
  return value == nullptr ? null : *value;
}

}  // namespace

TokenizerPipeline::TokenizerPipeline(Parts parts, const std::string& file)
    : parts_(std::move(parts)),
      post_processor_(parts_.post_processor, file + ": post_processor"),
      added_(parts_.added_tokens, parts_.model->vocab(), parts_.normalizer.get(),
             file + ": added_tokens") {}

std::vector<int64_t> TokenizerPipeline::encode(std::string_view text,
                                               bool add_special_tokens) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size() / 3 + 8);
  std::vector<TextPart> found;
  added_.split(text, /*normalized=*/false, found);
  for (const TextPart& part : found) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      encode_plain(text.substr(part.begin, part.end - part.begin), part.begin == 0, ids);
    }
  }
  return post_processor_.apply(std::move(ids), add_special_tokens);
}

void TokenizerPipeline::encode_plain(std::string_view text, bool at_start,
                                     std::vector<int64_t>& ids) const {
  NormalText normal{std::string(text), at_start};
  if (parts_.normalizer != nullptr) parts_.normalizer->apply(normal);
  std::vector<TextPart> found;
  added_.split(normal.text, /*normalized=*/true, found);
  if (found.size() == 1 && found[0].id < 0) {
    return encode_words(std::move(normal.text), normal.at_start, ids);
  }
  for (const TextPart& part : found) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      encode_words(normal.text.substr(part.begin, part.end - part.begin),
                   normal.at_start && part.begin == 0, ids);
    }
  }
}

void TokenizerPipeline::encode_words(std::string text, bool at_start,
                                     std::vector<int64_t>& ids) const {
  const size_t size = text.size();
  Words words{std::move(text), {{0, size}}, at_start};
  if (parts_.pre_tokenizer != nullptr) parts_.pre_tokenizer->apply(words);
  for (const Span& span : words.spans) parts_.model->encode(words.view(span), ids);
}

std::string TokenizerPipeline::decode(std::span<const int64_t> ids,
                                      bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int64_t id : ids) {
    const std::string* token = added_.decoded(id);
    if (token == nullptr) token = parts_.model->vocab().token(id);
    if (token == nullptr) continue;
    if (skip_special_tokens && added_.is_special(*token)) continue;
    tokens.push_back(*token);
  }
  if (parts_.decoder != nullptr) parts_.decoder->apply(tokens, grown_limit(bytes_of(tokens)));
  std::string text;
  for (const std::string& token : tokens) {
    if (parts_.decoder == nullptr && &token != &tokens[0]) text += ' ';
    text += token;
  }
  return text;
}

const std::string* TokenizerPipeline::token(int64_t id) const {
  const std::string* token = added_.content(id);
  return token != nullptr ? token : parts_.model->vocab().token(id);
}

std::optional<int64_t> TokenizerPipeline::id(std::string_view token) const {
  const std::optional<int64_t> id = added_.id(token);
  return id ? id : parts_.model->vocab().id(token);
}

int64_t TokenizerPipeline::vocab_size() const {
  const auto& own = parts_.model->vocab();
  const auto& added = added_.ids();
  const auto extra = std::count_if(added.begin(), added.end(),
                                   [&](const auto& entry) { return !own.id(entry.first); });
  return static_cast<int64_t>(own.size()) + extra;
}

std::unique_ptr<const TokenizerBody> read_pipeline(const nlohmann::json& json,
                                                   const std::string& file) {
  const JsonFields fields(json, file);
  TokenizerPipeline::Parts parts;
  parts.normalizer = read_normalizer(value_or_null(fields, "normalizer"), file + ": normalizer");
  parts.pre_tokenizer =
      read_pre_tokenizer(value_or_null(fields, "pre_tokenizer"), file + ": pre_tokenizer");
  parts.model = read_word_model(fields.object("model"), file + ": model");
  parts.decoder = read_decoder(value_or_null(fields, "decoder"), file + ": decoder");
  parts.post_processor = value_or_null(fields, "post_processor");
  parts.added_tokens = value_or_null(fields, "added_tokens");
  auto body = std::make_unique<TokenizerPipeline>(std::move(parts), file);
  const auto version = fields.optional<std::string>("version", "1.0");
  HEADLENS_CHECK(ConfigError, version == "1.0", "[{}] key 'version', expected 1.0, got {}", file,
                 version);
  fields.ignore({"truncation", "padding"});
  fields.check_all_read();
  return body;
}

}  // namespace headlens
