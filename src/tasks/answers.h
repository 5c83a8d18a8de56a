// headlens/tasks: answers of GSM8K, read out of completions as the harness's filters do.
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

}  // namespace headlens
