// headlens/tasks: MMLU from a local directory, prompts as lm-evaluation-harness 0.4 makes them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

/// How a question is put: its options listed and the letter asked for (the harness's `mmlu`), or
/// the option's text to be continued with (`mmlu_continuation`).
enum class MmluForm {
  Letters,  ///< options listed, the letter asked for
  Text      ///< the option's text continues the prompt
};

/// Options of the task mmlu.
struct MmluOptions {
  int64_t shots = 5;                  ///< 0 .. 5, the first of the subject's dev file
  MmluForm form = MmluForm::Letters;  ///< listed letters, or texts
  std::string split = "test";         ///< "test", "val" or "dev"
  std::vector<std::string>
      subjects;   ///< file names without "_test.csv"; empty: all, in their order
  int64_t n = 0;  ///< the first n of each subject; 0: all
};

/// Reads `directory`/{dev,val,test}/SUBJECT_{dev,val,test}.csv, the layout of hendrycks/test: no
/// header, the columns question, A, B, C, D, letter. In the letter form span i is the line of the
/// question's option i with its newline. Throws TaskError naming directory, file and line, and
/// UsageError for a subject that is not there (naming the nearest).
std::vector<Example> load_mmlu(const std::filesystem::path& directory,
                               const MmluOptions& options = {});

}  // namespace headlens
