// headlens/tests: a stranger's program, linked with the installed library, does the main job.
#include <cstdio>

#include "every_header.h"

using namespace headlens;

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const LanguageModel model = LanguageModel::load(argv[1]);
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  const Task task = make_task("mcq:options=4,n=32", /*seed=*/0);
  const auto objective = make_choice_objective(tokenize(task, tokenizer));
  const FindResult found = find_gather_aggregate(model, *objective);
  std::printf("%s", scores_csv(found).c_str());
  if (found.aggregate.empty()) return 1;
  try {
    LanguageModel::load("nowhere");
  } catch (const CheckpointError& error) {
    std::puts(error.what());
    return 0;
  }
  return 1;
}
