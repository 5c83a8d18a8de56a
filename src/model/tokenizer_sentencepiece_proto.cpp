// headlens/model: what a SentencePiece model file says that its library does not give out.
#include "model/tokenizer_sentencepiece_proto.h"

#include <utility>

#include "core/check.h"

namespace headlens {
namespace {

// Field numbers of sentencepiece_model.proto.
constexpr uint64_t kPieces = 1, kTrainer = 2, kNormalizer = 3;
constexpr uint64_t kPieceText = 1, kPieceType = 3;
constexpr uint64_t kModelType = 3, kWhitespaceAsSuffix = 24;
constexpr uint64_t kCharMap = 2, kDummyPrefix = 3, kRemoveExtra = 4, kEscape = 5;

/// Walks over the fields of one message.
class Fields {
 public:
  Fields(std::string_view message, const std::string& file) : rest_(message), file_(file) {}

  /// Moves to the next field; false at the end.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t key = varint();
    number = key >> 3;
    value = 0;
    bytes = {};
    switch (key & 7) {
      case 0:
        value = varint();
        return true;
      case 1:
        take(8);
        return true;
      case 2:
        bytes = take(varint());
        return true;
      case 5:
        take(4);
        return true;
      default:
        fail("a field of no known kind");
    }
  }

  uint64_t number = 0;
  uint64_t value = 0;      // of a number
  std::string_view bytes;  // of a string or a message

 private:
  [[noreturn]] void fail(std::string_view got) const {
    HEADLENS_FAIL(ConfigError, "[{}] SentencePiece model, expected a whole one, got {}", file_,
                  got);
  }

  uint64_t varint() {
    uint64_t out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      out |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return out;
    }
    fail("a number too long");
  }

  std::string_view take(uint64_t size) {
    if (size > rest_.size()) fail("one that is cut short or no such model");
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return out;
  }

  std::string_view rest_;
  const std::string& file_;
};

SentencePieceEntry read_piece(std::string_view bytes, const std::string& file) {
  SentencePieceEntry entry;
  for (Fields f(bytes, file); f.next();) {
    if (f.number == kPieceText) entry.piece = f.bytes;
    if (f.number == kPieceType) entry.type = static_cast<SentencePieceEntry::Type>(f.value);
  }
  return entry;
}

uint32_t read_u32(std::string_view bytes, size_t at) {
  const auto byte = [&](size_t i) { return uint32_t{static_cast<uint8_t>(bytes[at + i])}; };
  return byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
}

/// Whether no walk through a normalization's double array leaves it. The library does not ask: a
/// damaged file would crash it. The layout: the array's size in bytes, the array, then texts that
/// end in NUL. A unit is a leaf's text (bit 31) or says where its children begin.
bool is_sound_char_map(std::string_view map) {
  if (map.size() < 8) return false;
  const uint64_t size = read_u32(map, 0);
  if (size % 4 != 0 || size == 0 || size >= map.size() - 4 || map.back() != '\0') return false;
  const std::string_view array = map.substr(4, size);
  const uint64_t texts = map.size() - 4 - size, units = size / 4;
  for (uint64_t i = 0; i < units; ++i) {
    const uint32_t unit = read_u32(array, i * 4);
    if (i > 0 && unit >> 31 != 0) continue;  // the walk begins at the first unit, leaf or not
    const uint64_t children = i ^ (unit >> 10) << ((unit & 0x200) >> 6);
    if ((children | 0xFF) >= units) return false;
    const bool has_leaf = (unit >> 8 & 1) != 0;
    if (has_leaf && (read_u32(array, children * 4) & 0x7FFFFFFF) >= texts) return false;
  }
  return true;
}

void read_trainer(Fields f, SentencePieceProto& proto) {
  while (f.next()) {
    if (f.number == kModelType) proto.model_type = f.value;
    if (f.number == kWhitespaceAsSuffix) proto.whitespace_as_suffix = f.value != 0;
  }
}

void read_normalizer_spec(Fields f, SentencePieceProto& proto, const std::string& file) {
  while (f.next()) {
    if (f.number == kCharMap) {
      proto.has_char_map = !f.bytes.empty();
      HEADLENS_CHECK(ConfigError, f.bytes.empty() || is_sound_char_map(f.bytes),
                     "[{}] precompiled_charsmap, expected a sound one, got a damaged one", file);
    }
    if (f.number == kDummyPrefix) proto.add_dummy_prefix = f.value != 0;
    if (f.number == kRemoveExtra) proto.remove_extra_whitespaces = f.value != 0;
    if (f.number == kEscape) proto.escape_whitespaces = f.value != 0;
  }
}

}  // namespace

SentencePieceProto read_sentencepiece_proto(std::string_view bytes, const std::string& file) {
  SentencePieceProto proto;
  for (Fields f(bytes, file); f.next();) {
    if (f.number == kPieces) proto.pieces.push_back(read_piece(f.bytes, file));
    if (f.number == kTrainer) read_trainer(Fields(f.bytes, file), proto);
    if (f.number == kNormalizer) read_normalizer_spec(Fields(f.bytes, file), proto, file);
  }
  HEADLENS_CHECK(ConfigError, !proto.pieces.empty(),
                 "[{}] SentencePiece model, expected pieces, got none", file);
  return proto;
}

std::string without_dummy_prefix(std::string_view bytes) {
  // A message may come in parts; of a field that comes twice the later one counts.
  constexpr char kPart[] = {kNormalizer << 3 | 2, 2, kDummyPrefix << 3 | 0, 0};
  return std::string(bytes).append(kPart, sizeof kPart);
}

}  // namespace headlens
