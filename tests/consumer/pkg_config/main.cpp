// headlens/tests: a stranger's program, built by g++ and pkg-config alone, does the main job.
#include <headlens/headlens.h>

#include <cstdio>

using namespace headlens;

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const LanguageModel model = LanguageModel::load(argv[1]);
  const Task task = make_task("mcq:options=4,n=16", /*seed=*/0);
  const auto objective = make_choice_objective(tokenize(task, Tokenizer::load(argv[1])));
  const FindResult found = find_gather_aggregate(model, *objective);
  std::printf("headlens %.*s: %zu aggregate heads\n", static_cast<int>(version().size()),
              version().data(), found.aggregate.size());
  return found.aggregate.empty() ? 1 : 0;
}
