// headlens/examples: a task of one's own: prompts with choices and segments, then the main job.
#include <headlens/headlens.h>

#include <cstdio>

using namespace headlens;

/// Which of three words was listed under a letter? Segment i is the line of option i.
std::vector<Example> letter_lookup() {
  const std::vector<std::string> words = {"camp", "pen", "anchor", "tank", "tent", "code", "cup"};
  std::vector<Example> examples;
  for (size_t i = 0; i < words.size() * 3; ++i) {
    Example example;
    example.prompt = "Which option is " + words[(i + i % 3) % words.size()] + "?\n";
    for (size_t option = 0; option < 3; ++option) {
      const size_t begin = example.prompt.size();
      const std::string letter(1, static_cast<char>('A' + option));
      example.prompt += letter + ". " + words[(i + option) % words.size()] + "\n";
      example.choices.push_back(" " + letter);
      example.spans.push_back({begin, example.prompt.size()});
    }
    example.prompt += "Answer:";
    example.answer = static_cast<int64_t>(i % 3);
    examples.push_back(example);
  }
  return examples;
}

int main(int argc, char** argv) {
  if (argc != 2) return std::puts("usage: custom_task CHECKPOINT_DIRECTORY"), 2;
  const LanguageModel model = LanguageModel::load(argv[1]);
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  Task task;
  task.info.name = "letter-lookup";
  task.examples = letter_lookup();
  const auto objective = make_choice_objective(tokenize(task, tokenizer));
  const FindResult found = find_gather_aggregate(model, *objective);
  std::printf("accuracy %.2f\n", found.base.accuracy.value);
  for (const HeadId& head : found.aggregate) {
    std::printf("aggregate %d.%d\n", static_cast<int>(head.layer), static_cast<int>(head.first));
  }
}
