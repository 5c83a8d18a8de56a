// headlens/model: UTF-8 and the character classes tokenizers speak of.
#include "model/tokenizer_unicode.h"

#include <utf8proc.h>

#include <array>

#include "model/tokenizer_unicode_age.h"

namespace headlens {
namespace {

constexpr uint32_t kReplacement = 0xFFFD;

/// Length of the well-formed sequence at the start of `s`, or 0; `bad` is then the length of the
/// maximal ill-formed piece (Unicode 15, section 3.9, table 3-7).
size_t sequence_length(std::string_view s, size_t& bad) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t lead = byte(0);
  bad = 1;
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint8_t low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (; bad < length; ++bad) {
    if (bad >= s.size() || byte(bad) < low || byte(bad) > high) return 0;
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

bool in_category(uint32_t code_point, int first, int last) {
  const int category = utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
  return category >= first && category <= last;
}

constexpr bool is_shown_as_itself(uint32_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct ByteAlphabet {
  std::array<std::string, 256> printable;
  std::array<int16_t, 0x180> byte_of{};

  ByteAlphabet() {
    byte_of.fill(-1);
    uint32_t next = 0x100;  // the others take the code points from U+0100 on, in order
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t shown = is_shown_as_itself(byte) ? byte : next++;
      append_utf8(shown, printable[byte]);
      byte_of[shown] = static_cast<int16_t>(byte);
    }
  }
};

const ByteAlphabet& byte_alphabet() {
  static const ByteAlphabet alphabet;
  return alphabet;
}

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  size_t bad = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t length = sequence_length(text.substr(i), bad);
    if (length == 0) return i;
    i += length;
  }
  return std::nullopt;
}

std::string repair_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  size_t bad = 0;
  for (size_t i = 0; i < bytes.size();) {
    const size_t length = sequence_length(bytes.substr(i), bad);
    if (length == 0) {
      append_utf8(kReplacement, out);
    } else {
      out += bytes.substr(i, length);
    }
    i += length == 0 ? bad : length;
  }
  return out;
}

uint32_t next_code_point(std::string_view text, size_t& i) {
  const uint8_t lead = static_cast<uint8_t>(text[i++]);
  if (lead < 0x80) return lead;
  const int more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  uint32_t code_point = lead & (0x3F >> more);
  for (int k = 0; k < more && i < text.size(); ++k) {
    code_point = code_point << 6 | (static_cast<uint8_t>(text[i++]) & 0x3F);
  }
  return code_point;
}

size_t previous_code_point(std::string_view text, size_t i) {
  do {
    --i;
  } while (i > 0 && (static_cast<uint8_t>(text[i]) & 0xC0) == 0x80);
  return i;
}

void append_utf8(uint32_t code_point, std::string& out) {
  std::array<utf8proc_uint8_t, 4> buffer;
  const auto length = utf8proc_encode_char(static_cast<int32_t>(code_point), buffer.data());
  out.append(reinterpret_cast<const char*>(buffer.data()), static_cast<size_t>(length));
}

bool is_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_numeric(uint32_t c) {
  return in_category(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool is_mark(uint32_t c) {
  return in_category(c, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME);
}

bool is_word(uint32_t c) {
  return in_category(c, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO) || is_mark(c) ||
         in_category(c, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NL) ||
         in_category(c, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PC) ||
         (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F189) ||  // circled letters are
         c == 0x200C || c == 0x200D;  // alphabetic, category So
}

bool is_punctuation(uint32_t c) {
  if (c < 0x80) return c > 0x20 && c < 0x7F && (c == '_' || !is_word(c));
  if (c == 0x166D) return true;  // was punctuation then
  return in_category(c, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO) && !is_late_punctuation(c);
}

std::string_view byte_to_printable(uint8_t byte) {
  return byte_alphabet().printable[byte];
}

std::optional<uint8_t> printable_to_byte(uint32_t code_point) {
  const auto& byte_of = byte_alphabet().byte_of;
  if (code_point >= byte_of.size() || byte_of[code_point] < 0) return std::nullopt;
  return static_cast<uint8_t>(byte_of[code_point]);
}

}  // namespace headlens
