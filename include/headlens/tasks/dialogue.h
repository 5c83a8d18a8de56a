// headlens/tasks: multiple choice about dialogues, DREAM and MuTual, from local files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

/// Whether options are listed and the letter asked for, or continue the prompt.
enum class DialogueForm {
  Letters,  ///< options listed, the letter asked for
  Text      ///< the option continues the prompt
};

/// Options of the task dream.
struct DialogueOptions {
  DialogueForm form = DialogueForm::Letters;  ///< listed letters, or texts
  int64_t n = 0;                              ///< the first n questions; 0: all
};

/// DREAM's file: [[[turn...], [{"question", "choice": [3], "answer"}...], id]...]; the answer is
/// one of the choices' texts. "turns\n\nquestion\nA. ...\nAnswer:", spans as in
/// make_multiple_choice, or "turns\n\nQuestion: question\nAnswer:". Throws TaskError naming file,
/// dialogue and key.
std::vector<Example> load_dream(const std::filesystem::path& file,
                                const DialogueOptions& options = {});

/// MuTual's directory: one JSON object a .txt file, {"article", "options": [4], "answers":
/// "A".."D"}, in the order of their names. "article\n\nWhich reply comes next?\nA. ...\nAnswer:",
/// or the article alone, as lm-evaluation-harness 0.4 has it (task `mutual`). Throws TaskError
/// naming file and key.
std::vector<Example> load_mutual(const std::filesystem::path& directory,
                                 const DialogueOptions& options = {});

/// MuTual's texts with the spaces before their signs taken out.
std::string mutual_text(std::string_view text);

}  // namespace headlens
