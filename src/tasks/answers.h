// headlens/tasks: answers read out of completions as lm-evaluation-harness 0.4's filters do.
#pragma once

#include <string>
#include <string_view>

namespace headlens {

/// First match of `#### (\-?[0-9\.\,]+)`. All of these return kNoAnswer where nothing matches.
std::string gsm8k_strict(std::string_view text);
/// First match of `The answer is (\-?[0-9\.\,]+).`: one more character must follow the number, so
/// a number at the very end loses its last digit.
std::string gsm8k_cot_strict(std::string_view text);
/// Last match of `(-?[$0-9.,]{2,})|(-?[0-9]+)`.
std::string gsm8k_flexible(std::string_view text);
/// Without commas, dollar signs, all up to the last "#### ", and a full stop at the end; lower
/// case.
std::string gsm8k_normal(std::string_view text);

/// First match of `(?<=the answer is )(.*)(?=.)`: the rest of the line but for its last character.
std::string bbh_cot_answer(std::string_view text);
/// Without a full stop at the end, commas, newlines, backslashes and double quotes; lower case.
std::string bbh_normal(std::string_view text);
/// The answer of one of BBH's tasks in a completion without a chain of thought: the first that
/// looks like an answer of that task.
std::string bbh_flexible(const std::string& task, std::string_view text);

}  // namespace headlens
