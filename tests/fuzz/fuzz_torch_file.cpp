// headlens/tests: fuzzes the reader of pytorch_model.bin.
#include <ATen/core/Tensor.h>

#include "fuzz_tools.h"
#include "headlens/core/torch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  const auto path = scratch.write("pytorch_model.bin", headlens::fuzz::view(data, size));
  headlens::fuzz::only_errors([&] {
    const auto file = headlens::TorchFile::open(path);
    for (const std::string& name : file.names()) {
      const headlens::TensorInfo& info = file.info(name);
      headlens::fuzz::require(info.begin <= info.end && info.end <= size, "a tensor in its file");
      const headlens::Tensor tensor = file.tensor(name);
      headlens::fuzz::require(static_cast<uint64_t>(tensor.numel()) <= size, "a tensor's size");
      std::string bytes(info.end - info.begin, '\0');
      file.read(name, 0, bytes.data(), bytes.size());
    }
  });
  return 0;
}
