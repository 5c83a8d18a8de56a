// headlens/tests: fuzzes JSON Lines of examples and comma-separated question files.
#include "fuzz_tools.h"
#include "headlens/tasks/jsonl.h"
#include "tasks/csv.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  const auto file = scratch.write("task.jsonl", headlens::fuzz::view(data, size));
  headlens::fuzz::only_errors([&] {
    for (const headlens::Example& example : headlens::load_jsonl(file)) {
      headlens::fuzz::require(
          example.answer >= 0 && example.answer < static_cast<int64_t>(example.choices.size()),
          "an answer among the choices");
    }
  });
  headlens::fuzz::only_errors([&] { headlens::read_csv(file); });
  return 0;
}
