// headlens/model: what a SentencePiece model file says that its library does not give out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace headlens {

/// One entry of the vocabulary; its id is its place.
struct SentencePieceEntry {
  enum class Type { Normal = 1, Unknown, Control, UserDefined, Unused, Byte };
  std::string piece;
  Type type = Type::Normal;
};

/// The fields of a ModelProto that decide how a text is cut, with the format's defaults.
struct SentencePieceProto {
  static constexpr uint64_t kUnigram = 1, kBpe = 2;

  std::vector<SentencePieceEntry> pieces;
  uint64_t model_type = kUnigram;
  bool whitespace_as_suffix = false;
  bool has_char_map = false;  // a normalization other than "identity"
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

/// Reads a serialized ModelProto (protocol buffers' wire format). Throws ConfigError, opening with
/// the file's name, if it is malformed or has no pieces.
SentencePieceProto read_sentencepiece_proto(std::string_view bytes, const std::string& file);

/// The same model without the space that `add_dummy_prefix` puts before a text.
std::string without_dummy_prefix(std::string_view bytes);

}  // namespace headlens
