// headlens/model: SentencePiece models, the `tokenizer.model` of Llama-1/2, Mistral and Gemma.
#include "model/tokenizer_sentencepiece.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <map>
#include <utility>

#include "core/json_fields.h"
#include "model/tokenizer_added.h"
#include "model/tokenizer_bpe.h"
#include "model/tokenizer_decode.h"
#include "model/tokenizer_sentencepiece_proto.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Type = SentencePieceEntry::Type;

constexpr size_t kLongestCachedChunk = 256;  // bytes

/// Whether a text may be cut before each run of spaces without changing its ids: nothing rewrites
/// it, it is merged pair by pair, no piece reaches over such a place, and the mark is known.
bool may_cut_at_spaces(const SentencePieceProto& proto) {
  const bool plain = proto.model_type == SentencePieceProto::kBpe && !proto.has_char_map &&
                     !proto.remove_extra_whitespaces && proto.escape_whitespaces &&
                     !proto.whitespace_as_suffix;
  const auto inner = [](const SentencePieceEntry& e) { return has_inner_mark(e.piece); };
  const auto mark = [](const SentencePieceEntry& e) {
    return e.piece == kSpaceMark && (e.type == Type::Normal || e.type == Type::UserDefined);
  };
  const auto& pieces = proto.pieces;
  return plain && std::none_of(pieces.begin(), pieces.end(), inner) &&
         std::any_of(pieces.begin(), pieces.end(), mark);
}

/// The end of the chunk that starts at `begin`: before the next run of spaces or marks.
size_t chunk_end(std::string_view text, size_t begin) {
  for (size_t i = begin + 1; i < text.size(); ++i) {
    if (text[i] != ' ' || text[i - 1] == ' ') continue;
    if (!text.substr(begin, i - begin).ends_with(kSpaceMark)) return i;
  }
  return text.size();
}

/// The JSON of that name beside the model, or an empty object.
json read_beside(const fs::path& path, const char* name) {
  std::error_code ignored;
  const fs::path file = path.parent_path() / name;
  return fs::exists(file, ignored) ? read_json_file(file) : json::object();
}

/// One entry of "added_tokens" as tokenizer.json would have it. All of them are looked for before
/// anything is rewritten.
json added_token(int64_t id, const std::string& content, bool special) {
  return {{"id", id}, {"content", content}, {"special", special}, {"normalized", false}};
}

/// "added_tokens_decoder" of a tokenizer_config.json, by content.
void read_config_tokens(const fs::path& path, std::map<std::string, json>& by_content) {
  const JsonFields config(read_beside(path, "tokenizer_config.json"),
                          (path.parent_path() / "tokenizer_config.json").string());
  if (!config.has("added_tokens_decoder")) return;
  const JsonFields listed = config.object("added_tokens_decoder");
  for (const auto& item : listed.value().items()) {
    const std::string& id = item.key();
    HEADLENS_CHECK(
        ConfigError,
        !id.empty() && id.size() < 10 && id.find_first_not_of("0123456789") == std::string::npos,
        "[{}] added_tokens_decoder, expected ids, got \"{}\"", listed.where(), id);
    const JsonFields token = listed.object(id);
    const auto content = token.required<std::string>("content");
    json entry = added_token(std::stoll(id), content, token.optional<bool>("special", false));
    for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
      entry[flag] = token.optional<bool>(flag, false);
    }
    by_content[content] = std::move(entry);
  }
}

/// Added tokens, in order of their ids, are pieces or follow the last one without a gap.
void check_ids(const std::vector<json>& list, const SentencePieceProto& proto,
               const std::string& where) {
  size_t next = proto.pieces.size();
  for (const json& token : list) {
    const auto id = token.at("id").get<size_t>();
    const auto content = token.at("content").get<std::string>();
    if (id < proto.pieces.size() && proto.pieces[id].piece == content) continue;
    HEADLENS_CHECK(ConfigError, id == next, "[{}] added token \"{}\", expected id {}, got {}",
                   where, content, next, id);
    ++next;
  }
}

/// The pieces that stand for no text, then what the files beside the model add or say otherwise.
json added_tokens(const SentencePieceProto& proto, const fs::path& path) {
  std::map<std::string, json> by_content;
  for (size_t i = 0; i < proto.pieces.size(); ++i) {
    const auto& [piece, type] = proto.pieces[i];
    if (type != Type::Control && type != Type::Unknown) continue;
    by_content[piece] = added_token(static_cast<int64_t>(i), piece, true);
  }
  const JsonFields beside(read_beside(path, "added_tokens.json"),
                          (path.parent_path() / "added_tokens.json").string());
  for (const auto& item : beside.value().items()) {
    const int64_t id = beside.required<uint32_t>(item.key());
    by_content[item.key()] = added_token(id, item.key(), false);
  }
  read_config_tokens(path, by_content);
  std::vector<json> list;
  for (auto& item : by_content) list.push_back(std::move(item.second));
  std::sort(list.begin(), list.end(), [](const json& a, const json& b) {
    return a.at("id").get<int64_t>() < b.at("id").get<int64_t>();
  });
  check_ids(list, proto, path.string());
  return list;
}

Vocab vocab_of(const SentencePieceProto& proto) {
  std::vector<std::string> pieces;
  pieces.reserve(proto.pieces.size());
  for (const SentencePieceEntry& entry : proto.pieces) pieces.push_back(entry.piece);
  return Vocab(pieces);
}

/// What the tokenizer.json of such a model has for its decoder.
std::unique_ptr<const TokenDecoder> make_decoder(bool add_dummy_prefix, const std::string& file) {
  json parts = {{{"type", "Replace"}, {"pattern", {{"String", kSpaceMark}}}, {"content", " "}},
                {{"type", "ByteFallback"}},
                {{"type", "Fuse"}}};
  if (add_dummy_prefix) {
    parts.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return read_decoder({{"type", "Sequence"}, {"decoders", parts}}, file);
}

/// What the library says of a model. Its double array throws where a piece holds a NUL.
sentencepiece::util::Status load_status(sentencepiece::SentencePieceProcessor& processor,
                                        std::string_view bytes) {
  try {
    return processor.LoadFromSerializedProto(bytes);
  } catch (const std::exception& error) {
    return {sentencepiece::util::StatusCode::kInternal, error.what()};
  }
}

class SentencePieceTokenizer : public TokenizerBody {
 public:
  SentencePieceTokenizer(std::string_view bytes, const SentencePieceProto& proto,
                         const fs::path& path);

  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const override;
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens) const override;
  const std::string* token(int64_t id) const override;
  std::optional<int64_t> id(std::string_view token) const override;
  int64_t vocab_size() const override;

 private:
  void encode_plain(std::string_view text, std::vector<int64_t>& ids) const;
  void encode_chunk(std::string_view text, std::vector<int64_t>& ids) const;
  void run(std::string_view text, std::vector<int64_t>& ids) const;

  bool cuts_;            // at spaces; then the library adds no space before a text
  bool prefix_ = false;  // whether we put one there instead
  sentencepiece::SentencePieceProcessor processor_;
  Vocab vocab_;
  AddedTokens added_;
  std::unique_ptr<const TokenDecoder> decoder_;
  std::vector<int64_t> start_, end_;  // what special tokens surround a text
  mutable WordCache cache_;
};

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view bytes,
                                               const SentencePieceProto& proto,
                                               const fs::path& path)
    : cuts_(may_cut_at_spaces(proto)),
      prefix_(cuts_ && proto.add_dummy_prefix),
      vocab_(vocab_of(proto)),
      added_(added_tokens(proto, path), vocab_, nullptr, path.string() + ": added tokens"),
      decoder_(make_decoder(proto.add_dummy_prefix, path.string())) {
  const std::string file = path.string();
  HEADLENS_CHECK(ConfigError, !proto.whitespace_as_suffix,
                 "[{}] treat_whitespace_as_suffix, expected false, got true, which is not handled",
                 file);
  const std::string prefixless = prefix_ ? without_dummy_prefix(bytes) : std::string();
  const auto status = load_status(processor_, prefix_ ? prefixless : bytes);
  HEADLENS_CHECK(ConfigError, status.ok(), "[{}] SentencePiece model, expected a whole one, got {}",
                 file, describe_json(json(status.ToString())));
  HEADLENS_CHECK(ConfigError, vocab_.size() == proto.pieces.size(),
                 "[{}] SentencePiece model, expected pieces all different, got some twice", file);
  const JsonFields config(read_beside(path, "tokenizer_config.json"),
                          (path.parent_path() / "tokenizer_config.json").string());
  const int start = processor_.bos_id(), end = processor_.eos_id();
  if (start >= 0 && config.optional<bool>("add_bos_token", true)) start_ = {start};
  if (end >= 0 && config.optional<bool>("add_eos_token", false)) end_ = {end};
}

std::vector<int64_t> SentencePieceTokenizer::encode(std::string_view text,
                                                    bool add_special_tokens) const {
  std::vector<int64_t> ids;
  ids.reserve(text.size() / 3 + 8);
  if (add_special_tokens) ids = start_;
  std::vector<TextPart> found;
  added_.split(text, /*normalized=*/false, found);
  for (const TextPart& part : found) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      encode_plain(text.substr(part.begin, part.end - part.begin), ids);
    }
  }
  if (add_special_tokens) ids.insert(ids.end(), end_.begin(), end_.end());
  return ids;
}

void SentencePieceTokenizer::encode_plain(std::string_view text, std::vector<int64_t>& ids) const {
  if (!cuts_) return run(text, ids);
  std::string prefixed;
  if (prefix_) {
    prefixed = " ";
    text = prefixed += text;
  }
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = chunk_end(text, begin);
    encode_chunk(text.substr(begin, end - begin), ids);
    begin = end;
  }
}

void SentencePieceTokenizer::encode_chunk(std::string_view text, std::vector<int64_t>& ids) const {
  const bool cached = text.size() < kLongestCachedChunk;
  if (cached && cache_.find(text, ids)) return;
  const size_t before = ids.size();
  run(text, ids);
  if (cached) cache_.insert(text, ids.data() + before, ids.size() - before);
}

void SentencePieceTokenizer::run(std::string_view text, std::vector<int64_t>& ids) const {
  std::vector<int> found;
  const auto status = processor_.Encode(text, &found);
  HEADLENS_CHECK(Error, status.ok(), "[Tokenizer] SentencePiece, expected ids, got: {}",
                 status.ToString());
  ids.insert(ids.end(), found.begin(), found.end());
}

std::string SentencePieceTokenizer::decode(std::span<const int64_t> ids,
                                           bool skip_special_tokens) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int64_t id : ids) {
    const std::string* spelled = token(id);
    if (spelled == nullptr || (skip_special_tokens && added_.is_special(*spelled))) continue;
    tokens.push_back(*spelled);
  }
  decoder_->apply(tokens, grown_limit(bytes_of(tokens)));
  return tokens.empty() ? std::string() : tokens[0];  // one text: the decoder fuses
}

const std::string* SentencePieceTokenizer::token(int64_t id) const {
  const std::string* content = added_.content(id);
  return content != nullptr ? content : vocab_.token(id);
}

std::optional<int64_t> SentencePieceTokenizer::id(std::string_view token) const {
  const std::optional<int64_t> id = added_.id(token);
  return id ? id : vocab_.id(token);
}

int64_t SentencePieceTokenizer::vocab_size() const {
  const auto& added = added_.ids();
  const auto extra = std::count_if(added.begin(), added.end(),
                                   [&](const auto& entry) { return !vocab_.id(entry.first); });
  return static_cast<int64_t>(vocab_.size()) + extra;
}

}  // namespace

std::unique_ptr<const TokenizerBody> read_sentencepiece(std::string_view bytes,
                                                        const fs::path& path) {
  const SentencePieceProto proto = read_sentencepiece_proto(bytes, path.string());
  return std::make_unique<SentencePieceTokenizer>(bytes, proto, path);
}

}  // namespace headlens
