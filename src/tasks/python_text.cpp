// headlens/tasks: string methods as Python has them, which published prompt formats are made with.
#include "tasks/python_text.h"

#include <utf8proc.h>

#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

/// str.isspace(): Unicode's White_Space and the four separators of ASCII.
bool is_python_space(uint32_t c) {
  return is_space(c) || (c >= 0x1C && c <= 0x1F);
}

/// `\w` of `re`: letters, numbers, '_'.
bool is_python_word(uint32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  const bool letter = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
  return letter || is_numeric(c) || c == '_';
}

void append_lower(uint32_t c, bool after_letter, bool before_letter, std::string& out) {
  constexpr uint32_t kCapitalDottedI = 0x130, kCapitalSigma = 0x3A3, kFinalSigma = 0x3C2;
  if (c == kCapitalDottedI) {
    out += "i\xCC\x87";
  } else if (c == kCapitalSigma && after_letter && !before_letter) {
    append_utf8(kFinalSigma, out);
  } else {
    append_utf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
  }
}

bool is_cased(uint32_t c) {
  const auto code = static_cast<utf8proc_int32_t>(c);
  return utf8proc_tolower(code) != code || utf8proc_toupper(code) != code;
}

/// The lower case of text[from, end); what is before `from` still says where a word ends.
std::string lower_from(std::string_view text, size_t from) {
  std::string out;
  bool after_letter = false;
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    const uint32_t c = next_code_point(text, i);
    size_t next = i;
    const bool before_letter = i < text.size() && is_cased(next_code_point(text, next));
    if (start >= from) append_lower(c, after_letter, before_letter, out);
    after_letter = is_cased(c);
  }
  return out;
}

}  // namespace

size_t python_rstrip_end(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t start = previous_code_point(text, end);
    size_t i = start;
    if (!is_python_space(next_code_point(text, i))) break;
    end = start;
  }
  return end;
}

std::string_view python_lstrip(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    if (!is_python_space(next_code_point(text, i))) return text.substr(start);
  }
  return {};
}

std::string_view python_strip(std::string_view text) {
  return python_lstrip(text.substr(0, python_rstrip_end(text)));
}

std::vector<std::string> python_split(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    if (!is_python_space(next_code_point(text, i))) {
      word += text.substr(start, i - start);
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

bool python_word_edge(std::string_view text, size_t at) {
  size_t before = at > 0 ? previous_code_point(text, at) : 0, after = at;
  const bool left = at > 0 && is_python_word(next_code_point(text, before));
  return left != (at < text.size() && is_python_word(next_code_point(text, after)));
}

std::string python_without_punctuation(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t start = i;
    const auto category =
        utf8proc_category(static_cast<utf8proc_int32_t>(next_code_point(text, i)));
    const bool sign = category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
    if (!sign) out += text.substr(start, i - start);
  }
  return out;
}

std::string python_lower(std::string_view text) {
  return lower_from(text, 0);
}

std::string python_capitalize(std::string_view text) {
  if (text.empty()) return {};
  size_t second = 0;
  const auto first = static_cast<utf8proc_int32_t>(next_code_point(text, second));
  std::string out;
  append_utf8(static_cast<uint32_t>(utf8proc_totitle(first)), out);
  return out + lower_from(text, second);
}

int64_t python_length(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (c & 0xC0) != 0x80;
  return count;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from)) {
    out.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
  }
  return out.append(text);
}

}  // namespace headlens
