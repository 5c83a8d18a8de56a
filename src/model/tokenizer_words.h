// headlens/model: the vocabulary and the models that turn one word into ids.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/json_fields.h"

namespace headlens {

/// Lets maps with string keys be asked with a string_view.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
template <typename T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

/// SentencePiece's stand-in for a space, U+2581.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

/// Whether a token has the mark behind another character: it then reaches over the start of a word.
bool has_inner_mark(std::string_view token);

/// Tokens and their ids, both ways.
class Vocab {
 public:
  /// Reads {"token": id, ...}. Throws ConfigError unless every id is a 32-bit unsigned integer.
  Vocab(const nlohmann::json& tokens, const std::string& where);
  /// The ids are the places. Tokens must be distinct.
  explicit Vocab(const std::vector<std::string>& tokens);
  Vocab(Vocab&&) = default;
  Vocab(const Vocab&) = delete;  // tokens_ points into ids_
  Vocab& operator=(const Vocab&) = delete;

  std::optional<int64_t> id(std::string_view token) const;
  const std::string* token(int64_t id) const;  // nullptr if there is none
  size_t size() const { return ids_.size(); }
  const StringMap<int64_t>& ids() const { return ids_; }

 private:
  StringMap<int64_t> ids_;
  std::unordered_map<int64_t, const std::string*> tokens_;  // keys of ids_
};

/// Turns one word, as the pre-tokenizer left it, into ids. Thread-safe.
class WordModel {
 public:
  explicit WordModel(Vocab vocab) : vocab_(std::move(vocab)) {}
  virtual ~WordModel() = default;
  WordModel(const WordModel&) = delete;
  WordModel& operator=(const WordModel&) = delete;

  /// Appends the ids of a word, which is not empty.
  virtual void encode(std::string_view word, std::vector<int64_t>& ids) const = 0;
  const Vocab& vocab() const { return vocab_; }

 private:
  Vocab vocab_;
};

/// Reads "model": a BPE or a WordLevel model. Throws ConfigError.
std::unique_ptr<const WordModel> read_word_model(const JsonFields& fields,
                                                 const std::string& where);

}  // namespace headlens
