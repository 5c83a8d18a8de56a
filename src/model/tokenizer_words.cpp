// headlens/model: the vocabulary and the models that turn one word into ids.
#include "model/tokenizer_words.h"

#include <limits>

#include "model/tokenizer_bpe.h"
#include "model/tokenizer_parts.h"
#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

/// One id a word, or the unknown token's.
class WordLevelModel : public WordModel {
 public:
  WordLevelModel(Vocab vocab, const std::string& unk_token, std::string where)
      : WordModel(std::move(vocab)),
        unk_token_(unk_token),
        unk_id_(this->vocab().id(unk_token)),
        where_(std::move(where)) {}

  void encode(std::string_view word, std::vector<int64_t>& ids) const override {
    const std::optional<int64_t> id = vocab().id(word);
    HEADLENS_CHECK(
        ConfigError, id || unk_id_,
        "[{}] word \"{}\", expected it or unk_token \"{}\" in the vocabulary, got neither", where_,
        word, unk_token_);
    ids.push_back(id ? *id : *unk_id_);
  }

 private:
  std::string unk_token_;
  std::optional<int64_t> unk_id_;
  std::string where_;
};

/// Files older than the "type" key tell the kinds apart by their keys.
std::string model_type(const JsonFields& fields) {
  const std::string fallback = fields.has("merges") ? "BPE" : "of no type";
  return fields.optional<std::string>("type", fallback);
}

}  // namespace

std::string read_one_char(const JsonFields& fields, std::string_view key) {
  auto text = fields.required<std::string>(key);
  size_t end = 0;
  if (!text.empty()) next_code_point(text, end);
  HEADLENS_CHECK(ConfigError, !text.empty() && end == text.size(),
                 "[{}] key '{}', expected one character, got \"{}\"", fields.where(), key, text);
  return text;
}

bool has_inner_mark(std::string_view token) {
  while (token.starts_with(kSpaceMark)) token.remove_prefix(kSpaceMark.size());
  return token.find(kSpaceMark) != std::string_view::npos;
}

Vocab::Vocab(const nlohmann::json& tokens, const std::string& where) {
  HEADLENS_CHECK(ConfigError, tokens.is_object(), "[{}] vocab, expected an object, got {}", where,
                 describe_json(tokens));
  ids_.reserve(tokens.size());
  tokens_.reserve(tokens.size());
  for (const auto& [token, id] : tokens.items()) {
    HEADLENS_CHECK(ConfigError, JsonType<uint32_t>::fits(id),
                   "[{}] vocab, token \"{}\", expected an id from 0 to {}, got {}", where, token,
                   std::numeric_limits<uint32_t>::max(), describe_json(id));
    const auto entry = ids_.emplace(token, id.get<int64_t>()).first;
    tokens_.emplace(entry->second, &entry->first);
  }
}

Vocab::Vocab(const std::vector<std::string>& tokens) {
  ids_.reserve(tokens.size());
  tokens_.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto entry = ids_.emplace(tokens[i], static_cast<int64_t>(i)).first;
    tokens_.emplace(entry->second, &entry->first);
  }
}

std::optional<int64_t> Vocab::id(std::string_view token) const {
  const auto it = ids_.find(token);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

const std::string* Vocab::token(int64_t id) const {
  const auto it = tokens_.find(id);
  return it == tokens_.end() ? nullptr : it->second;
}

std::unique_ptr<const WordModel> read_word_model(const JsonFields& fields,
                                                 const std::string& where) {
  const std::string type = model_type(fields);
  HEADLENS_CHECK(ConfigError, type == "BPE" || type == "WordLevel",
                 "[{}] type, expected BPE or WordLevel, got \"{}\", which is not handled", where,
                 type);
  const nlohmann::json* tokens = fields.find("vocab");
  HEADLENS_CHECK(ConfigError, tokens != nullptr, "[{}] key 'vocab', expected object, got nothing",
                 where);
  Vocab vocab(*tokens, where);
  if (type == "BPE") return read_bpe_model(fields, std::move(vocab), where);
  return std::make_unique<WordLevelModel>(std::move(vocab),
                                          fields.required<std::string>("unk_token"), where);
}

}  // namespace headlens
