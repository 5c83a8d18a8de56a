// headlens/tasks: the tasks that are read from files of published evaluation sets.
#include "tasks/data_tasks.h"

#include "core/check.h"
#include "headlens/tasks/dialogue.h"
#include "headlens/tasks/mmlu.h"
#include "headlens/tasks/question_sets.h"

namespace headlens {
namespace {

constexpr int64_t kMaxRows = 1'000'000;
constexpr int64_t kMaxShots = 100;

bool asks_for_text(const DataSpec& spec, const char* task) {
  const std::string& form = spec.text("form");
  HEADLENS_CHECK(UsageError, form == "letters" || form == "text",
                 "[task] {}: form, expected letters or text, got '{}'", task, form);
  return form == "text";
}

std::vector<Example> load_mmlu_task(const DataSpec& spec) {
  MmluOptions options;
  options.shots = spec.number("shots");
  options.form = asks_for_text(spec, "mmlu") ? MmluForm::Text : MmluForm::Letters;
  options.split = spec.text("split");
  options.subjects = listed(spec.text("subjects"));
  options.n = spec.number("n");
  return load_mmlu(spec.path, options);
}

QuestionSetOptions set_options(const DataSpec& spec) {
  QuestionSetOptions options;
  options.file = spec.path;
  options.shots = spec.number("shots");
  options.examples = spec.text("examples");
  options.n = spec.number("n");
  return options;
}

template <QuestionSet set>
std::vector<Example> load_set(const DataSpec& spec) {
  return load_question_set(set, set_options(spec));
}

std::vector<Example> load_piqa_task(const DataSpec& spec) {
  QuestionSetOptions options = set_options(spec);
  options.labels = spec.text("labels");
  return load_question_set(QuestionSet::Piqa, options);
}

DialogueOptions dialogue_options(const DataSpec& spec, const char* task) {
  const bool text = asks_for_text(spec, task);
  return {text ? DialogueForm::Text : DialogueForm::Letters, spec.number("n")};
}

std::vector<Example> load_dream_task(const DataSpec& spec) {
  return load_dream(spec.path, dialogue_options(spec, "dream"));
}

std::vector<Example> load_mutual_task(const DataSpec& spec) {
  return load_mutual(spec.path, dialogue_options(spec, "mutual"));
}

}  // namespace

const std::vector<DataTask>& data_tasks() {
  static const std::vector<DataParam> set_params = {
      {"shots", "0", 0, kMaxShots}, {"examples", ""}, {"n", "all", 1, kMaxRows}};
  static const std::vector<DataParam> dialogue_params = {{"form", "letters"},
                                                         {"n", "all", 1, kMaxRows}};
  static const std::vector<DataTask> tasks = {
      {"mmlu",
       "DIR",
       {{"shots", "5", 0, kMaxShots},
        {"form", "letters"},
        {"subjects", "all"},
        {"split", "test"},
        {"n", "all", 1, kMaxRows}},
       load_mmlu_task},
      {"arc-easy", "FILE", set_params, load_set<QuestionSet::Arc>},
      {"arc-challenge", "FILE", set_params, load_set<QuestionSet::Arc>},
      {"openbookqa", "FILE", set_params, load_set<QuestionSet::OpenBookQa>},
      {"piqa",
       "FILE",
       {set_params[0], set_params[1], set_params[2], {"labels", ""}},
       load_piqa_task},
      {"hellaswag", "FILE", set_params, load_set<QuestionSet::HellaSwag>},
      {"winogrande", "FILE", set_params, load_set<QuestionSet::Winogrande>},
      {"dream", "FILE", dialogue_params, load_dream_task},
      {"mutual", "DIR", dialogue_params, load_mutual_task},
  };
  return tasks;
}

}  // namespace headlens
