// headlens/model: text to token ids and back, as a checkpoint's tokenizer file says.
#include "headlens/model/tokenizer.h"

#include <fstream>
#include <iterator>
#include <utility>

#include "core/check.h"
#include "core/json_fields.h"
#include "model/tokenizer_pipeline.h"
#include "model/tokenizer_sentencepiece.h"
#include "model/tokenizer_tiktoken.h"
#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;

/// The file of a directory: tokenizer.json, else tokenizer.model.
fs::path tokenizer_file(const fs::path& file_or_dir) {
  std::error_code ignored;
  if (!fs::is_directory(file_or_dir, ignored)) return file_or_dir;
  const fs::path json = file_or_dir / "tokenizer.json", model = file_or_dir / "tokenizer.model";
  return !fs::exists(json, ignored) && fs::exists(model, ignored) ? model : json;
}

std::string read_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::error_code ignored;
  HEADLENS_CHECK(ConfigError, in.good() && fs::is_regular_file(path, ignored),
                 "[{}] file, expected a readable one, got none", path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

std::unique_ptr<const TokenizerBody> read_body(const fs::path& path) {
  if (path.extension() != ".model") return read_pipeline(read_json_file(path), path.string());
  const std::string bytes = read_bytes(path);
  return looks_like_tiktoken(bytes) ? read_tiktoken(bytes, path) : read_sentencepiece(bytes, path);
}

}  // namespace

Tokenizer::Tokenizer(std::shared_ptr<const TokenizerBody> body) : body_(std::move(body)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& file_or_dir) {
  return Tokenizer(read_body(tokenizer_file(file_or_dir)));
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  const std::optional<size_t> bad = find_invalid_utf8(text);
  HEADLENS_CHECK(UsageError, !bad,
                 "[Tokenizer::encode] text, expected UTF-8, got byte 0x{:02X} at {}",
                 static_cast<uint8_t>(text[*bad]), *bad);
  return body_->encode(text, add_special_tokens);
}

std::string Tokenizer::decode(std::span<const int64_t> ids, bool skip_special_tokens) const {
  return body_->decode(ids, skip_special_tokens);
}

std::string Tokenizer::id_to_token(int64_t id) const {
  const std::string* token = body_->token(id);
  HEADLENS_CHECK(UsageError, token != nullptr,
                 "[Tokenizer::id_to_token] id, expected one of the vocabulary, got {}", id);
  return *token;
}

std::optional<int64_t> Tokenizer::token_to_id(std::string_view token) const {
  return body_->id(token);
}

int64_t Tokenizer::vocab_size() const {
  return body_->vocab_size();
}

}  // namespace headlens
