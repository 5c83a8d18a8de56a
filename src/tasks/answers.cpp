// headlens/tasks: answers read out of completions as lm-evaluation-harness 0.4's filters do.
#include "tasks/answers.h"

#include <array>
#include <cctype>
#include <span>

#include "headlens/tasks/generative.h"
#include "model/tokenizer_unicode.h"
#include "tasks/python_text.h"

namespace headlens {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_number_sign(char c) {
  return is_digit(c) || c == '.' || c == ',';
}
bool is_money_sign(char c) {
  return is_number_sign(c) || c == '$';
}

template <typename Fits>
size_t run_end(std::string_view text, size_t at, Fits fits) {
  while (at < text.size() && fits(text[at])) ++at;
  return at;
}

std::string stripped(std::string_view text) {
  return std::string(python_strip(text));
}

/// `MARK(\-?[0-9\.\,]+)`, and one more character if `followed`.
std::string number_after(std::string_view text, std::string_view mark, bool followed) {
  for (size_t at = text.find(mark); at != text.npos; at = text.find(mark, at + 1)) {
    const size_t begin = at + mark.size();
    const size_t first = begin + (begin < text.size() && text[begin] == '-' ? 1 : 0);
    size_t end = run_end(text, first, is_number_sign);
    const bool has_next = end < text.size() && text[end] != '\n';
    if (followed && !has_next && end > first) --end;  // the last sign is the character that follows
    if (end > first) return stripped(text.substr(begin, end - begin));
  }
  return kNoAnswer;
}

/// Removes the full stop that `\.$` matches: at the end, or before a newline there.
void drop_last_stop(std::string& text) {
  const size_t end = text.ends_with('\n') ? text.size() - 1 : text.size();
  if (text.ends_with('.')) {
    text.pop_back();
  } else if (end > 0 && end < text.size() && text[end - 1] == '.') {
    text.erase(end - 1, 1);
  }
}

bool is_word_byte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return std::isalnum(byte) != 0 || c == '_' || byte >= 0x80;  // letters beyond ASCII
}

/// The first of `words` that stands alone in the text (`\b...\b`).
std::string first_word(std::string_view text, std::span<const std::string_view> words) {
  for (size_t at = 0; at < text.size(); ++at) {
    if (at > 0 && is_word_byte(text[at - 1])) continue;
    for (const std::string_view word : words) {
      const size_t end = at + word.size();
      const bool alone = end >= text.size() || !is_word_byte(text[end]);
      if (text.substr(at).starts_with(word) && alone) return std::string(word);
    }
  }
  return kNoAnswer;
}

/// `(\([A-Z]\))`
std::string first_letter(std::string_view text) {
  for (size_t at = 0; at + 2 < text.size(); ++at) {
    const bool letter = text[at + 1] >= 'A' && text[at + 1] <= 'Z';
    if (text[at] == '(' && letter && text[at + 2] == ')') return std::string(text.substr(at, 3));
  }
  return kNoAnswer;
}

/// `([-0-9]+)`
std::string first_integer(std::string_view text) {
  const auto fits = [](char c) { return is_digit(c) || c == '-'; };
  for (size_t at = 0; at < text.size(); ++at) {
    if (fits(text[at])) return std::string(text.substr(at, run_end(text, at, fits) - at));
  }
  return kNoAnswer;
}

}  // namespace

std::string gsm8k_strict(std::string_view text) {
  return number_after(text, "#### ", /*followed=*/false);
}

std::string gsm8k_cot_strict(std::string_view text) {
  return number_after(text, "The answer is ", /*followed=*/true);
}

std::string gsm8k_flexible(std::string_view text) {
  std::string last = kNoAnswer;
  for (size_t at = 0; at < text.size();) {
    const size_t first = at + (text[at] == '-' ? 1 : 0);
    size_t end = run_end(text, first, is_money_sign);
    if (end - first < 2) end = run_end(text, first, is_digit);
    if (end > first) last = stripped(text.substr(at, end - at));
    at = end > first ? end : at + 1;
  }
  return last;
}

std::string gsm8k_normal(std::string_view text) {
  constexpr std::string_view kMark = "#### ";
  std::string out = replace_all(replace_all(text, ",", ""), "$", "");
  if (const size_t mark = out.rfind(kMark); mark != out.npos) out.erase(0, mark + kMark.size());
  drop_last_stop(out);
  return python_lower(out);
}

std::string bbh_cot_answer(std::string_view text) {
  constexpr std::string_view kMark = "the answer is ";
  for (size_t at = text.find(kMark); at != text.npos; at = text.find(kMark, at + 1)) {
    const size_t begin = at + kMark.size();
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end == begin) continue;
    const size_t last = previous_code_point(text, end);
    return stripped(text.substr(begin, last - begin));
  }
  return kNoAnswer;
}

std::string bbh_normal(std::string_view text) {
  std::string out(text);
  drop_last_stop(out);
  for (const char* sign : {",", "\n", "\\", "\""}) out = replace_all(out, sign, "");
  return python_lower(out);
}

std::string bbh_flexible(const std::string& task, std::string_view text) {
  static constexpr std::array<std::string_view, 2> kTruth = {"True", "False"};
  static constexpr std::array<std::string_view, 4> kConsent = {"Yes", "No", "yes", "no"};
  static constexpr std::array<std::string_view, 2> kValidity = {"valid", "invalid"};
  if (task == "boolean_expressions") return first_word(text, kTruth);
  if (task == "formal_fallacies") return first_word(text, kValidity);
  if (task == "multistep_arithmetic_two" || task == "object_counting") return first_integer(text);
  const bool by_consent = task == "navigate" || task == "causal_judgement" ||
                          task == "web_of_lies" || task == "sports_understanding";
  if (by_consent) return first_word(text, kConsent);
  // What is sorted or closed has no form to look for.
  if (task == "word_sorting" || task == "dyck_languages") return stripped(text);
  return first_letter(text);
}

}  // namespace headlens
