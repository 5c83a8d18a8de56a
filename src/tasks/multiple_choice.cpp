// headlens/tasks: letter retrieval, the skill that multiple-choice tests share.
#include "headlens/tasks/multiple_choice.h"

#include "core/check.h"
#include "tasks/prompts.h"

namespace headlens {

std::vector<Example> make_multiple_choice(const MultipleChoiceOptions& options, uint64_t seed) {
  HEADLENS_CHECK(UsageError, options.options >= 2 && options.options <= kMaxLetters,
                 "[task] mcq: options, expected 2 to {}, got {}", kMaxLetters, options.options);
  HEADLENS_CHECK(UsageError, options.n > 0, "[task] mcq: n, expected at least 1, got {}",
                 options.n);
  Draw draw(seed);
  std::vector<Example> examples;
  for (int64_t i = 0; i < options.n; ++i) {
    const LetterQuestion question = draw_letter_question(options.options, draw);
    const std::string& word = question.options[static_cast<size_t>(question.answer)];
    PromptText prompt = letters_text(letter_question_text(word), question.options);
    Example example;
    example.prompt = std::move(prompt.text);
    example.choices = letter_choices(options.options);
    example.answer = question.answer;
    example.spans = std::move(prompt.spans);
    example.source = fmt::format("mcq example {}", i + 1);
    examples.push_back(std::move(example));
  }
  return examples;
}

}  // namespace headlens
