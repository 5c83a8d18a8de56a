// headlens/model: UTF-8 and the character classes tokenizers speak of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace headlens {

/// Where the first byte lies that is not part of valid UTF-8; nothing if all of it is.
std::optional<size_t> find_invalid_utf8(std::string_view text);

/// The text with every maximal invalid piece replaced by U+FFFD.
std::string repair_utf8(std::string_view bytes);

/// Reads one code point of valid UTF-8 at `i` and moves `i` behind it.
uint32_t next_code_point(std::string_view text, size_t& i);

/// The start of the code point that ends before `i`; `i` must be above 0.
size_t previous_code_point(std::string_view text, size_t i);

void append_utf8(uint32_t code_point, std::string& out);

bool is_space(uint32_t code_point);    // White_Space
bool is_numeric(uint32_t code_point);  // Nd, Nl, No
bool is_mark(uint32_t code_point);     // Mn, Mc, Me
bool is_word(uint32_t code_point);     // what \w is to added tokens: letters, marks, digits, Pc

/// Punctuation as the reference tokenizers see it: ASCII punctuation, and category P as it stood
/// in the old Unicode table that they use.
bool is_punctuation(uint32_t code_point);

/// GPT-2's printable stand-in for a byte, as UTF-8.
std::string_view byte_to_printable(uint8_t byte);

/// The byte a printable stand-in means, or nothing.
std::optional<uint8_t> printable_to_byte(uint32_t code_point);

}  // namespace headlens
