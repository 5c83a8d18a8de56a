// headlens/tasks: prompt texts, written once for tasks and for training.
#include "tasks/prompts.h"

#include "tasks/word_list.h"

namespace headlens {

Dictionary draw_dictionary(int64_t pairs, Draw& draw, int64_t word_count, int64_t values) {
  const auto words = word_list();
  Dictionary dictionary;
  for (int64_t i : draw.sample(pairs, word_count)) {
    dictionary.keys.push_back(words[static_cast<size_t>(i)]);
  }
  for (int64_t value : draw.sample(pairs, values)) {
    dictionary.values.push_back(std::to_string(value));
  }
  return dictionary;
}

Dictionary draw_dictionary(int64_t pairs, Draw& draw) {
  return draw_dictionary(pairs, draw, std::ssize(word_list()), kDictionaryValues);
}

PromptText dictionary_text(const Dictionary& dictionary) {
  PromptText out{"Memorize the following dictionary:\n", {}};
  for (size_t i = 0; i < dictionary.keys.size(); ++i) {
    const size_t begin = out.text.size();
    out.text.append(dictionary.keys[i]).append(":").append(dictionary.values[i]);
    out.spans.push_back({begin, out.text.size()});
    out.text += '\n';
  }
  return out;
}

std::string dictionary_query(std::string_view key) {
  return "The value of the key '" + std::string(key) + "' is";
}

PromptText letters_text(std::string_view question, const std::vector<std::string>& options) {
  PromptText out{std::string(question) + "\n", {}};
  for (size_t i = 0; i < options.size(); ++i) {
    const size_t begin = out.text.size();
    out.text += letter(static_cast<int64_t>(i)) + ". " + options[i] + "\n";
    out.spans.push_back({begin, out.text.size()});
  }
  out.text += "Answer:";
  return out;
}

std::string letter(int64_t index) {
  return std::string(1, static_cast<char>('A' + index));
}

std::vector<std::string> letter_choices(int64_t count) {
  std::vector<std::string> choices;
  for (int64_t i = 0; i < count; ++i) choices.push_back(" " + letter(i));
  return choices;
}

LetterQuestion draw_letter_question(int64_t options, Draw& draw) {
  const auto words = word_list();
  LetterQuestion question;
  for (int64_t i : draw.sample(options, std::ssize(words))) {
    question.options.emplace_back(words[static_cast<size_t>(i)]);
  }
  question.answer = draw.below(options);
  return question;
}

std::string letter_question_text(std::string_view word) {
  return "Which option is " + std::string(word) + "?";
}

}  // namespace headlens
