// headlens/model: added tokens, which are found in a text before any word is.
#include "model/tokenizer_added.h"

#include <algorithm>

#include "core/json_fields.h"
#include "headlens/core/log.h"
#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

bool word_before(std::string_view text, size_t i) {
  if (i == 0) return false;
  size_t start = previous_code_point(text, i);
  return is_word(next_code_point(text, start));
}

bool word_at(std::string_view text, size_t i) {
  return i < text.size() && is_word(next_code_point(text, i));
}

/// Moves `i` left over spaces, but not beyond `limit`.
size_t skip_spaces_left(std::string_view text, size_t i, size_t limit) {
  while (i > limit) {
    const size_t start = previous_code_point(text, i);
    size_t end = start;
    if (!is_space(next_code_point(text, end))) break;
    i = start;
  }
  return i;
}

size_t skip_spaces_right(std::string_view text, size_t i) {
  for (size_t end = i; end < text.size(); i = end) {
    if (!is_space(next_code_point(text, end))) break;
  }
  return i;
}

}  // namespace

StringSet::StringSet() : nodes_(1) {}

void StringSet::insert(std::string_view text, int64_t value) {
  starts_[static_cast<uint8_t>(text[0])] = true;
  uint32_t node = 0;
  for (const char byte : text) {
    auto& children = nodes_[node].children;
    const auto it = std::lower_bound(children.begin(), children.end(), std::pair(byte, 0u));
    if (it != children.end() && it->first == byte) {
      node = it->second;
      continue;
    }
    const auto child = static_cast<uint32_t>(nodes_.size());
    children.insert(it, {byte, child});
    nodes_.emplace_back();  // `children` is invalid from here on
    node = child;
  }
  nodes_[node].value = value;
}

std::optional<std::pair<int64_t, size_t>> StringSet::longest(std::string_view text) const {
  std::optional<std::pair<int64_t, size_t>> found;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto& children = nodes_[node].children;
    const auto it = std::lower_bound(children.begin(), children.end(), std::pair(text[i], 0u));
    if (it == children.end() || it->first != text[i]) break;
    node = it->second;
    if (nodes_[node].value >= 0) found = std::pair(nodes_[node].value, i + 1);
  }
  return found;
}

AddedTokens::AddedTokens(const nlohmann::json& list, const Vocab& vocab,
                         const Normalizer* normalizer, const std::string& where)
    : next_id_(static_cast<int64_t>(vocab.size())) {
  if (list.is_null()) return;
  HEADLENS_CHECK(ConfigError, list.is_array(), "[{}] expected an array, got {}", where,
                 describe_json(list));
  for (const nlohmann::json& entry : list) {
    const JsonFields fields(entry, where);
    AddedToken token;
    token.content = fields.required<std::string>("content");
    token.single_word = fields.optional<bool>("single_word", false);
    token.lstrip = fields.optional<bool>("lstrip", false);
    token.rstrip = fields.optional<bool>("rstrip", false);
    token.special = fields.optional<bool>("special", false);
    token.normalized = fields.optional<bool>("normalized", !token.special);
    const int64_t said_id = fields.required<uint32_t>("id");
    fields.check_all_read();
    if (!token.content.empty()) add(token, said_id, vocab, where);
  }
  for (auto& [id, token] : tokens_) {
    NormalText pattern{token.content, /*at_start=*/true};
    if (token.normalized && normalizer != nullptr) normalizer->apply(pattern);
    token.pattern = std::move(pattern.text);
    if (!token.pattern.empty()) {
      (token.normalized ? normalized_ : plain_).insert(token.pattern, id);
    }
  }
}

void AddedTokens::add(const AddedToken& token, int64_t said_id, const Vocab& vocab,
                      const std::string& where) {
  std::optional<int64_t> id = this->id(token.content);
  if (!id) id = vocab.id(token.content);
  if (!id) id = next_id_++;
  if (*id != said_id) {
    log_warn(fmt::format("[{}] token \"{}\", expected id {}, got {} by its place", where,
                         token.content, said_id, *id));
  }
  ids_[token.content] = *id;
  tokens_[*id] = token;
}

void AddedTokens::split(std::string_view text, bool normalized,
                        std::vector<TextPart>& parts) const {
  const StringSet& set = normalized ? normalized_ : plain_;
  size_t done = 0;
  for (size_t i = 0; i < text.size() && !set.empty();) {
    if (!set.starts_with(text[i])) {
      ++i;
      continue;
    }
    const auto found = set.longest(text.substr(i));
    if (!found) {
      ++i;
      continue;
    }
    const auto [id, length] = *found;
    const AddedToken& token = tokens_.at(id);
    size_t begin = i;
    size_t end = i + length;
    i = end;
    if (token.single_word && (word_before(text, begin) || word_at(text, end))) continue;
    if (token.lstrip) begin = skip_spaces_left(text, begin, done);
    if (token.rstrip) end = skip_spaces_right(text, end);
    if (done < begin) parts.push_back({done, begin, -1});
    parts.push_back({begin, end, id});
    done = end;
  }
  if (done < text.size()) parts.push_back({done, text.size(), -1});
}

std::optional<int64_t> AddedTokens::id(std::string_view content) const {
  const auto it = ids_.find(content);
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

const std::string* AddedTokens::content(int64_t id) const {
  const auto it = tokens_.find(id);
  return it == tokens_.end() ? nullptr : &it->second.content;
}

const std::string* AddedTokens::decoded(int64_t id) const {
  const auto it = tokens_.find(id);
  return it == tokens_.end() ? nullptr : &it->second.pattern;
}

bool AddedTokens::is_special(std::string_view content) const {
  const auto it = ids_.find(content);
  return it != ids_.end() && tokens_.at(it->second).special;
}

}  // namespace headlens
