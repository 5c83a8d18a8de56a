// headlens/tasks: answers of GSM8K, read out of completions as the harness's filters do.
#include "tasks/answers.h"

#include "headlens/tasks/generative.h"
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

}  // namespace headlens
