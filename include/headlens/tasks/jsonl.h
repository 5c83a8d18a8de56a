// headlens/tasks: examples as JSON Lines.
#pragma once

#include <filesystem>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

class Tokenizer;

/// Reads one example a line: {"prompt": str, "choices": [str...], "answer": int, "segments":
/// [[start, end]...], "choice_leads": [str...], "choice_lengths": [int...], "corrupted": str,
/// "corrupted_answer": int}; all from segments on are optional, the last two go together, other
/// keys are the file's own business. Blank lines are skipped. Throws TaskError
/// "[task] FILE line N: ...".
std::vector<Example> load_jsonl(const std::filesystem::path& file);

/// Writes examples in the same form; byte spans become token segments of `tokenizer`. Throws
/// TaskError for an example that does not tokenize, Error if the file cannot be written.
void save_jsonl(const std::vector<Example>& examples, const Tokenizer& tokenizer,
                const std::filesystem::path& file);

}  // namespace headlens
