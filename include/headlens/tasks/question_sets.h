// headlens/tasks: ARC, OpenBookQA, PIQA, HellaSwag, Winogrande, prompts as lm-evaluation-harness
// 0.4.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

/// Published question sets that are read as their authors publish them.
enum class QuestionSet {
  Arc,         ///< arXiv 1803.05457
  OpenBookQa,  ///< arXiv 1809.02789
  Piqa,        ///< arXiv 1911.11641
  HellaSwag,   ///< arXiv 1905.07830
  Winogrande   ///< arXiv 1907.10641
};

/// Options of the tasks from published question sets.
struct QuestionSetOptions {
  std::filesystem::path file;      ///< the set as it is published, one JSON object a line
  std::filesystem::path labels;    ///< PIQA: one a line; empty: STEM-labels.lst beside the file
  int64_t shots = 0;               ///< the first of `examples`
  std::filesystem::path examples;  ///< a file of the same form; needed with shots
  int64_t n = 0;                   ///< the first n; 0: all
};

/// Reads a set from the JSON Lines its authors (or the Hugging Face hub) publish. Choices are the
/// answers in full, not listed in the prompt, so there are no segments; Winogrande's are compared
/// by what comes after the blank. Throws TaskError naming file, line and key.
std::vector<Example> load_question_set(QuestionSet set, const QuestionSetOptions& options);

}  // namespace headlens
