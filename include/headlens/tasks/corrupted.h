// headlens/tasks: corrupted prompts for patching: as many tokens, another answer.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/model/objective.h"
#include "headlens/tasks/task.h"
#include "headlens/tasks/types.h"

namespace headlens {

/// Where a corrupted prompt comes from.
enum class Corruption {
  Given,  ///< the file has it: "corrupted" and "corrupted_answer" of a JSON line
  Swap,  ///< the same prompt with the right answer and another exchanged: options of lettered lines
         ///< (mcq, MMLU), else every place of two answers' words (kv, mqar, copying)
  Example  ///< the prompt of another example, whose answer is another of this one's choices
};

/// Given where every example has one, Swap where the texts of the task allow it, else Example.
Corruption default_corruption(const Task& task);
/// "given", "swap", "example".
const char* corruption_name(Corruption how);
/// Nothing for another word.
std::optional<Corruption> parse_corruption(std::string_view word);

/// For each example one with the same choices, whose prompt has as many tokens and whose answer is
/// another: the one right there. `clean` is the task as `tokenize` gives it, with `bos` if that was
/// asked for. Swap takes the first choice behind the right one, in a circle, with which no segment
/// moves; Example the first such example. TaskError naming the example for which there is none.
std::vector<TokenizedExample> corrupted_examples(const Task& task,
                                                 const std::vector<TokenizedExample>& clean,
                                                 const Tokenizer& tokenizer, Corruption how,
                                                 bool bos = false);

/// The same without the examples for which there is none; `kept` gets the numbers of the others.
/// TaskError, the last one's, if none is left.
std::vector<TokenizedExample> corrupted_where_possible(const Task& task,
                                                       const std::vector<TokenizedExample>& clean,
                                                       const Tokenizer& tokenizer, Corruption how,
                                                       bool bos, std::vector<size_t>& kept);

/// The two as objectives of the same rows: corrupted examples stand where their clean ones are
/// batched, whatever they begin with. TaskError for other numbers of examples or tokens and for
/// other choices.
struct ObjectivePair {
  std::unique_ptr<Objective> clean;      ///< judged by the clean prompts' answers
  std::unique_ptr<Objective> corrupted;  ///< by the corrupted prompts'
};
/// Both from the examples' tokens, in batches of `max_batch_tokens` row x pos; errors as above.
ObjectivePair make_choice_pair(std::vector<TokenizedExample> clean,
                               std::vector<TokenizedExample> corrupted, int64_t max_batch_tokens);

}  // namespace headlens
