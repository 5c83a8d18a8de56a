// headlens/model: tiktoken vocabularies, the `tokenizer.model` of Llama-3.
#include "model/tokenizer_tiktoken.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/json_fields.h"
#include "model/tokenizer_bpe.h"
#include "model/tokenizer_pipeline.h"
#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kLlama3Tokens = 128000;
constexpr size_t kSpecialTokens = 256;
constexpr size_t kMaxTokenBytes = 1024;  // every cut of a token is looked up; Llama-3's have 128

/// Llama-3's words, in the syntax of tokenizer.json.
constexpr char kLlama3Words[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// The first special tokens in order of their ids; "" is the next reserved one, as are the rest.
constexpr std::string_view kLlama3Special[] = {
    "<|begin_of_text|>",   "<|end_of_text|>",   "", "",          "", "",
    "<|start_header_id|>", "<|end_header_id|>", "", "<|eot_id|>"};
constexpr std::string_view kLlama31Special[] = {"<|begin_of_text|>",
                                                "<|end_of_text|>",
                                                "",
                                                "",
                                                "<|finetune_right_pad_id|>",
                                                "",
                                                "<|start_header_id|>",
                                                "<|end_header_id|>",
                                                "<|eom_id|>",
                                                "<|eot_id|>",
                                                "<|python_tag|>"};

int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/// The bytes of a base64 text with its padding (RFC 4648), or nothing.
std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  text.remove_suffix(padding);
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int value = base64_value(c);
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 0xFF);
  }
  return bytes;
}

struct Line {
  std::string token;
  size_t rank;
};

/// "base64 rank", or nothing.
std::optional<Line> read_line(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  size_t rank = 0;
  const char* const last = line.data() + line.size();
  const auto [end, error] = std::from_chars(line.data() + space + 1, last, rank);
  if (error != std::errc() || end != last) return std::nullopt;
  auto token = from_base64(line.substr(0, space));
  if (!token) return std::nullopt;
  return Line{std::move(*token), rank};
}

/// The tokens, as bytes, by rank.
std::vector<std::string> read_tokens(std::string_view bytes, const std::string& file) {
  std::vector<std::string> tokens;
  size_t number = 0;
  while (!bytes.empty()) {
    const size_t end = std::min(bytes.find('\n'), bytes.size());
    const std::string_view text = bytes.substr(0, end);
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
    ++number;
    if (text.empty()) continue;
    auto line = read_line(text);
    HEADLENS_CHECK(ConfigError, line.has_value(),
                   "[{}:{}] line, expected a token in base64, a space and a rank, got {}", file,
                   number, describe_json(json(repair_utf8(text))));
    HEADLENS_CHECK(ConfigError, line->token.size() <= kMaxTokenBytes,
                   "[{}:{}] token, expected at most {} bytes, got {}", file, number, kMaxTokenBytes,
                   line->token.size());
    HEADLENS_CHECK(ConfigError, line->rank == tokens.size(),
                   "[{}:{}] rank, expected {} (ranks count the lines from 0), got {}", file, number,
                   tokens.size(), line->rank);
    tokens.push_back(std::move(line->token));
  }
  return tokens;
}

using Ranks = std::unordered_map<std::string_view, uint32_t>;

Ranks rank_tokens(const std::vector<std::string>& tokens, const std::string& file) {
  Ranks ranks;
  ranks.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto [it, is_new] = ranks.emplace(tokens[i], static_cast<uint32_t>(i));
    HEADLENS_CHECK(ConfigError, is_new, "[{}] rank {}, expected another token than rank {}, got {}",
                   file, i, it->second, "the same");
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    HEADLENS_CHECK(ConfigError, ranks.contains({&c, 1}),
                   "[{}] tokens, expected one for each byte, got none for 0x{:02X}", file, byte);
  }
  return ranks;
}

/// Any two neighbours merge whose bytes together are a token, the token of the lowest rank first.
MergeTable all_merges(const std::vector<std::string>& tokens, const Ranks& ranks) {
  std::vector<std::pair<uint64_t, Merge>> merges;
  for (uint32_t rank = 0; rank < tokens.size(); ++rank) {
    const std::string_view token = tokens[rank];
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ranks.find(token.substr(0, cut)), right = ranks.find(token.substr(cut));
      if (left == ranks.end() || right == ranks.end()) continue;
      merges.emplace_back(MergeTable::key(left->second, right->second), Merge{rank, rank});
    }
  }
  return MergeTable(merges);
}

std::unique_ptr<const WordModel> make_model(const std::vector<std::string>& tokens,
                                            const std::string& file) {
  MergeTable merges = all_merges(tokens, rank_tokens(tokens, file));
  std::vector<std::string> spelled;
  spelled.reserve(tokens.size());
  for (const std::string& token : tokens) {
    std::string& out = spelled.emplace_back();
    for (const char byte : token) out += byte_to_printable(static_cast<uint8_t>(byte));
  }
  BpeOptions options;
  options.ignore_merges = true;  // a word that is a token is that token
  return std::make_unique<BpeModel>(Vocab(spelled), std::move(options), std::move(merges), file);
}

/// What the files beside a tokenizer say of its model.
struct Neighbours {
  std::optional<size_t> vocab_size;
  bool llama31 = false;
};

Neighbours ask_neighbours(const fs::path& directory) {
  Neighbours found;
  for (const char* name : {"config.json", "params.json"}) {
    std::error_code ignored;
    if (!fs::exists(directory / name, ignored)) continue;
    const json config = read_json_file(directory / name);
    if (!config.is_object()) continue;
    const json size = config.value("vocab_size", json());
    if (JsonType<size_t>::fits(size)) found.vocab_size = size.get<size_t>();
    for (const char* key : {"rope_scaling", "rope_parameters"}) {  // transformers 4 and 5
      const json scaling = config.value(key, json());
      const bool named = scaling.is_object() && scaling.value("rope_type", json()) == "llama3";
      found.llama31 = found.llama31 || named;
    }
    found.llama31 = found.llama31 || config.value("use_scaled_rope", json()) == true;
  }
  return found;
}

/// "added_tokens" with the special tokens' names. Llama-3.1 gave names to some reserved ones.
json special_tokens(size_t first_id, bool llama31) {
  const auto names = llama31 ? std::span<const std::string_view>(kLlama31Special)
                             : std::span<const std::string_view>(kLlama3Special);
  json list = json::array();
  size_t reserved = 0;
  for (size_t i = 0; i < kSpecialTokens; ++i) {
    std::string name(i < names.size() ? names[i] : "");
    if (name.empty()) name = fmt::format("<|reserved_special_token_{}|>", reserved++);
    list.push_back({{"id", first_id + i}, {"content", name}, {"special", true}});
  }
  return list;
}

json start_token_template(size_t id) {
  constexpr auto kStart = kLlama3Special[0];
  return {{"type", "TemplateProcessing"},
          {"single", {{{"SpecialToken", {{"id", kStart}}}}, {{"Sequence", {{"id", "A"}}}}}},
          {"special_tokens", {{kStart, {{"ids", {id}}}}}}};
}

}  // namespace

bool looks_like_tiktoken(std::string_view bytes) {
  const std::string_view line = bytes.substr(0, std::min(bytes.find('\n'), bytes.size()));
  return line.size() < 1000 && read_line(line).has_value();
}

std::unique_ptr<const TokenizerBody> read_tiktoken(std::string_view bytes, const fs::path& path) {
  const std::string file = path.string();
  const std::vector<std::string> tokens = read_tokens(bytes, file);
  const Neighbours beside = ask_neighbours(path.parent_path());
  const bool is_llama3 = beside.vocab_size ? *beside.vocab_size == tokens.size() + kSpecialTokens
                                           : tokens.size() == kLlama3Tokens;
  HEADLENS_CHECK(ConfigError, is_llama3,
                 "[{}] tiktoken file, expected Llama-3's ({} tokens, or {} fewer than the "
                 "vocab_size of a config.json or params.json beside it), got {} tokens and {}",
                 file, kLlama3Tokens, kSpecialTokens, tokens.size(),
                 beside.vocab_size ? fmt::format("vocab_size {}", *beside.vocab_size)
                                   : std::string("no vocab_size"));
  TokenizerPipeline::Parts parts;
  parts.model = make_model(tokens, file);
  const json split = {
      {"type", "Split"}, {"pattern", {{"Regex", kLlama3Words}}}, {"behavior", "Isolated"}};
  const json bytes_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  parts.pre_tokenizer =
      read_pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", {split, bytes_level}}}, file);
  parts.decoder = read_decoder({{"type", "ByteLevel"}}, file);
  parts.added_tokens = special_tokens(tokens.size(), beside.llama31);
  parts.post_processor = start_token_template(tokens.size());
  return std::make_unique<TokenizerPipeline>(std::move(parts), file);
}

}  // namespace headlens
