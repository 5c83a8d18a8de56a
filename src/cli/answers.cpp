// headlens/cli: the tokens that tell an example's answer.
#include "cli/answers.h"

#include <algorithm>

namespace headlens::cli {

std::vector<AnswerTokens> answers_of(const std::vector<TokenizedExample>& examples) {
  std::vector<AnswerTokens> answers;
  for (const TokenizedExample& example : examples) {
    AnswerTokens tokens;
    tokens.answer = example.choice_ids.at(static_cast<size_t>(example.answer)).front();
    for (const std::vector<int64_t>& choice : example.choice_ids) {
      const int64_t id = choice.front();
      const bool known =
          std::find(tokens.others.begin(), tokens.others.end(), id) != tokens.others.end();
      if (id != tokens.answer && !known) tokens.others.push_back(id);
    }
    answers.push_back(std::move(tokens));
  }
  return answers;
}

}  // namespace headlens::cli
