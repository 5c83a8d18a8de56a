// headlens/model: added tokens, which are found in a text before any word is.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/tokenizer_normalize.h"
#include "model/tokenizer_words.h"

namespace headlens {

/// One entry of "added_tokens".
struct AddedToken {
  std::string content;
  bool single_word = false;  // found only where no word character is beside it
  bool lstrip = false;       // takes the spaces before it
  bool rstrip = false;       // takes the spaces behind it
  bool normalized = false;   // looked for in the normalized text, itself normalized
  bool special = false;
  std::string pattern;  // what is looked for: the content, normalized if need be
};

/// A stretch of a text that is an added token, or (id -1) text between them.
struct TextPart {
  size_t begin = 0;
  size_t end = 0;
  int64_t id = -1;
};

/// Finds the longest of a set of strings at a position.
class StringSet {
 public:
  StringSet();
  void insert(std::string_view text, int64_t value);
  bool empty() const { return nodes_.size() == 1; }
  /// Whether any string begins with this byte.
  bool starts_with(char byte) const { return starts_[static_cast<uint8_t>(byte)]; }
  /// The value and the length of the longest string that `text` begins with.
  std::optional<std::pair<int64_t, size_t>> longest(std::string_view text) const;

 private:
  struct Node {
    std::vector<std::pair<char, uint32_t>> children;  // sorted by byte
    int64_t value = -1;
  };
  std::array<bool, 256> starts_{};
  std::vector<Node> nodes_;
};

/// The vocabulary that "added_tokens" lays over the model's. Immutable.
class AddedTokens {
 public:
  /// Ids are given as the reference does: the model's own for tokens it knows, else the next free
  /// one. Logs a warning where the file says otherwise. `normalizer` may be nullptr.
  AddedTokens(const nlohmann::json& list, const Vocab& vocab, const Normalizer* normalizer,
              const std::string& where);

  /// Appends the parts of a text: in order, without gaps. `normalized` says which of the two
  /// passes this is.
  void split(std::string_view text, bool normalized, std::vector<TextPart>& parts) const;

  std::optional<int64_t> id(std::string_view content) const;
  const std::string* content(int64_t id) const;  // nullptr if there is none
  /// What a decoder is given for the id: the content, normalized if the token is looked for in
  /// normalized text.
  const std::string* decoded(int64_t id) const;
  bool is_special(std::string_view content) const;
  const StringMap<int64_t>& ids() const { return ids_; }

 private:
  void add(const AddedToken& token, int64_t said_id, const Vocab& vocab, const std::string& where);

  StringMap<int64_t> ids_;
  std::unordered_map<int64_t, AddedToken> tokens_;
  int64_t next_id_;
  StringSet plain_;
  StringSet normalized_;
};

}  // namespace headlens
