// headlens/tests: fuzzes the pickle inside a PyTorch file.
#include "core/pickled_tensors.h"
#include "fuzz_tools.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  headlens::fuzz::only_errors([&] {
    for (const auto& tensor :
         headlens::read_pickled_tensors(headlens::fuzz::view(data, size), "p")) {
      headlens::fuzz::require(tensor.shape.size() <= 64, "a bounded number of dimensions");
    }
  });
  return 0;
}
