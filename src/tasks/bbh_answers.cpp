// headlens/tasks: answers of BIG-Bench Hard, read out of completions as the harness's filters do.
#include "tasks/bbh_answers.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "headlens/tasks/generative.h"
#include "model/tokenizer_unicode.h"
#include "tasks/english_number.h"
#include "tasks/python_text.h"

namespace headlens {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

template <typename Fits>
size_t run_end(std::string_view text, size_t at, Fits fits) {
  while (at < text.size() && fits(text[at])) ++at;
  return at;
}

/// Phrases, the first of which to stand alone in a text decides the answer.
struct Phrase {
  std::string_view words;
  std::string_view answer;
};

/// A phrase at a place of a text.
struct Found {
  size_t begin = std::string_view::npos;
  size_t index = 0;  // of the phrase
};

/// `\b(A|B|..)\b` from `from` on: the leftmost, of those at one place the first.
template <typename Words>
Found find_alone(std::string_view text, const Words& phrases, size_t from = 0) {
  for (size_t at = from; at < text.size(); ++at) {
    for (size_t i = 0; i < phrases.size(); ++i) {
      const std::string_view words = phrases[i];
      if (!text.substr(at).starts_with(words)) continue;
      if (python_word_edge(text, at) && python_word_edge(text, at + words.size())) return {at, i};
    }
  }
  return {};
}

std::string first_phrase(std::string_view text, std::span<const Phrase> phrases) {
  std::vector<std::string_view> words;
  for (const Phrase& phrase : phrases) words.push_back(phrase.words);
  const Found found = find_alone(text, words);
  if (found.begin == text.npos) return kNoAnswer;
  return std::string(phrases[found.index].answer);
}

/// `(\([A-Z]\))`
std::optional<std::string> first_letter(std::string_view text) {
  for (size_t at = 0; at + 2 < text.size(); ++at) {
    const bool letter = text[at + 1] >= 'A' && text[at + 1] <= 'Z';
    if (text[at] == '(' && letter && text[at + 2] == ')') return std::string(text.substr(at, 3));
  }
  return std::nullopt;
}

/// Lower case without punctuation, as options and texts are compared.
std::string bare(std::string_view text) {
  return python_without_punctuation(python_lower(text));
}

/// The options of a question, bare: what follows each "(A)" up to a newline, '(' or '^' (the
/// harness's pattern has the last).
std::vector<std::string> bare_options(std::string_view question) {
  std::vector<std::string> options;
  for (size_t at = 0; at + 2 < question.size(); ++at) {
    const char letter = question[at + 1];
    if (question[at] != '(' || letter < 'A' || letter > 'Z' || question[at + 2] != ')') continue;
    const size_t end = std::min(question.find_first_of("\n(^", at + 3), question.size());
    options.push_back(bare(python_strip(question.substr(at + 3, end - at - 3))));
    at = end - 1;
  }
  return options;
}

std::string letter_of(size_t option) {
  return {'(', static_cast<char>('A' + option), ')'};
}

/// The option whose words stand first in the text; of options with the same words the last.
std::optional<std::string> option_in_words(std::string_view text,
                                           const std::vector<std::string>& options) {
  const std::string plain = bare(text);
  for (size_t at = 0; at <= plain.size(); ++at) {
    for (const std::string& option : options) {
      if (!std::string_view(plain).substr(at).starts_with(option)) continue;
      const std::string words(python_strip(option));
      if (words.empty()) return std::nullopt;  // an option without words ends the search
      const auto last = std::find(options.rbegin(), options.rend(), words);
      if (last == options.rend()) return words;  // white space was left where a sign was taken out
      return letter_of(static_cast<size_t>(options.rend() - last - 1));
    }
  }
  return std::nullopt;
}

/// `:[\s]*(A|B|..)` with as many letters as there are options.
std::optional<std::string> letter_after_colon(std::string_view text, size_t options) {
  for (size_t at = text.find(':'); at != text.npos; at = text.find(':', at + 1)) {
    const std::string_view rest = python_lstrip(text.substr(at + 1));
    if (rest.empty() || rest[0] < 'A') continue;
    const size_t option = static_cast<size_t>(rest[0] - 'A');
    if (option < options) return letter_of(option);
  }
  return std::nullopt;
}

std::string choice_of(std::string_view text, const std::string& question) {
  if (const auto letter = first_letter(text)) return *letter;
  const std::vector<std::string> options = bare_options(question);
  if (const auto letter = option_in_words(text, options)) return *letter;
  return letter_after_colon(text, options.size()).value_or(kNoAnswer);
}

/// `([-0-9]+)`, else the first number in English words.
std::string whole_number(std::string_view text) {
  const auto fits = [](char c) { return is_digit(c) || c == '-'; };
  for (size_t at = 0; at < text.size(); ++at) {
    if (fits(text[at])) return std::string(text.substr(at, run_end(text, at, fits) - at));
  }
  return english_number(python_lower(text)).value_or(kNoAnswer);
}

/// `[" \[\(<{}>\)\]]+`
std::string first_brackets(std::string_view text) {
  constexpr std::string_view kSigns = "\" [(<{}>)]";
  const size_t begin = text.find_first_of(kSigns);
  if (begin == text.npos) return kNoAnswer;
  const size_t end = std::min(text.find_first_not_of(kSigns, begin), text.size());
  return std::string(python_strip(text.substr(begin, end - begin)));
}

/// The words of the question's list in the order in which the text has them last.
std::string sorted_words(std::string_view text, const std::string& question) {
  constexpr std::string_view kList = "List:";
  const size_t list = question.find(kList);
  if (list == question.npos) return kNoAnswer;
  std::string_view all = std::string_view(question).substr(list + kList.size());
  all = all.substr(0, all.find(kList));
  const std::vector<std::string> words = python_split(all);
  std::vector<size_t> order;  // of words, by where they stand last
  for (Found found = find_alone(text, words); found.begin != text.npos;) {
    std::erase_if(order, [&](size_t word) { return words[word] == words[found.index]; });
    order.push_back(found.index);
    found = find_alone(text, words, found.begin + words[found.index].size());
  }
  std::string joined;
  for (const size_t word : order) joined += (joined.empty() ? "" : " ") + words[word];
  return joined;
}

constexpr std::array<Phrase, 2> kTruth = {{{"True", "True"}, {"False", "False"}}};
constexpr std::array<Phrase, 4> kConsent = {
    {{"Yes", "Yes"}, {"No", "No"}, {"yes", "yes"}, {"no", "no"}}};
constexpr std::array<Phrase, 2> kValidity = {{{"valid", "valid"}, {"invalid", "invalid"}}};
constexpr std::array<Phrase, 4> kPlausible = {
    {{"no", "no"}, {"not plausible", "no"}, {"yes", "yes"}, {"plausible", "yes"}}};
constexpr std::array<Phrase, 6> kTruthful = {{{"no", "no"},
                                              {"does not tell the truth", "no"},
                                              {"is not telling the truth", "no"},
                                              {"yes", "yes"},
                                              {"tells the truth", "yes"},
                                              {"is telling the truth", "yes"}}};

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

std::string bbh_cot_answer(std::string_view text) {
  constexpr std::string_view kMark = "the answer is ";
  for (size_t at = text.find(kMark); at != text.npos; at = text.find(kMark, at + 1)) {
    const size_t begin = at + kMark.size();
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end == begin) continue;
    const size_t last = previous_code_point(text, end);
    return std::string(python_strip(text.substr(begin, last - begin)));
  }
  return kNoAnswer;
}

std::string bbh_normal(std::string_view text) {
  std::string out(text);
  drop_last_stop(out);
  for (const char* sign : {",", "\n", "\\", "\""}) out = replace_all(out, sign, "");
  return python_lower(out);
}

std::string bbh_flexible(const std::string& task, const std::string& question,
                         std::string_view text) {
  if (task == "boolean_expressions") return first_phrase(text, kTruth);
  if (task == "formal_fallacies") return first_phrase(text, kValidity);
  if (task == "navigate" || task == "causal_judgement") return first_phrase(text, kConsent);
  if (task == "sports_understanding") return first_phrase(python_lower(text), kPlausible);
  if (task == "web_of_lies") return first_phrase(python_lower(text), kTruthful);
  if (task == "multistep_arithmetic_two" || task == "object_counting") return whole_number(text);
  if (task == "word_sorting") return sorted_words(text, question);
  if (task == "dyck_languages") return first_brackets(text);
  return choice_of(text, question);
}

}  // namespace headlens
