// headlens/tasks: one line of each evaluation set as a question.
#pragma once

#include <string>
#include <vector>

#include "tasks/harness_prompt.h"
#include "tasks/json_line.h"

namespace headlens {

/// AI2's layout ("question": {"stem", "choices": [{"text", "label"}]}) or the hub's ("question",
/// "choices": {"text": [...], "label": [...]}), "answerKey" in both; or "query", "choices", "gold".
HarnessDoc arc_doc(const JsonLine& line);
/// The same layouts; the hub calls the question "question_stem".
HarnessDoc openbookqa_doc(const JsonLine& line);
/// "goal", "sol1", "sol2", and "label" unless it comes from a file of its own.
HarnessDoc piqa_doc(const JsonLine& line, const std::string* label);
/// "activity_label", "ctx_a", "ctx_b", "endings", "label"; or "query", "choices", "gold".
HarnessDoc hellaswag_doc(const JsonLine& line);
/// "sentence" with "_", "option1", "option2", "answer" ("1" or "2").
HarnessDoc winogrande_doc(const JsonLine& line);

/// HellaSwag's texts without the marks of their source.
std::string hellaswag_text(const std::string& text);

}  // namespace headlens
