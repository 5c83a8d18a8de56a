// headlens/tests: fuzzes the lines of published question sets.
#include "fuzz_tools.h"
#include "tasks/json_line.h"
#include "tasks/question_docs.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using headlens::fuzz::only_errors;
  only_errors([&] {
    const headlens::JsonLine line(std::string(headlens::fuzz::view(data, size)), "line 1");
    only_errors([&] { headlens::arc_doc(line); });
    only_errors([&] { headlens::openbookqa_doc(line); });
    only_errors([&] { headlens::piqa_doc(line, nullptr); });
    only_errors([&] { headlens::hellaswag_doc(line); });
    only_errors([&] { headlens::winogrande_doc(line); });
  });
  return 0;
}
