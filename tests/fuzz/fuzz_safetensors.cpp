// headlens/tests: fuzzes the reader of safetensors files.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstring>

#include "fuzz_tools.h"
#include "headlens/core/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  const auto path = scratch.write("model.safetensors", headlens::fuzz::view(data, size));
  headlens::fuzz::only_errors([&] {
    const auto file = headlens::SafetensorsFile::open(path);
    for (const std::string& name : file.names()) {
      const headlens::TensorInfo& info = file.info(name);
      headlens::fuzz::require(info.end <= size, "a tensor within its file");
      const headlens::Tensor tensor = file.tensor(name);
      headlens::fuzz::require(static_cast<uint64_t>(tensor.nbytes()) == info.end - info.begin,
                              "a tensor's size");
      std::string bytes(info.end - info.begin, '\0');
      file.read(name, 0, bytes.data(), bytes.size());
      headlens::fuzz::require(
          bytes.empty() || std::memcmp(bytes.data(), tensor.const_data_ptr(), bytes.size()) == 0,
          "a tensor's bytes");
    }
  });
  return 0;
}

#ifdef HEADLENS_FUZZ
/// Half of the time the header alone is changed, and its length follows.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  constexpr size_t kLength = 8;
  uint64_t header = 0;
  if (size > kLength) std::memcpy(&header, data, kLength);
  if (seed % 2 == 0 || size <= kLength || header > size - kLength) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  std::string text(reinterpret_cast<char*>(data) + kLength, header);
  const std::string rest(reinterpret_cast<char*>(data) + kLength + header, size - kLength - header);
  const size_t room = max_size - kLength - std::min(rest.size(), max_size - kLength);
  text.resize(std::max(room, text.size()));
  text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), header, text.size()));
  header = text.size();
  std::string out(kLength, '\0');
  std::memcpy(out.data(), &header, kLength);
  out += text + rest;
  out.resize(std::min(out.size(), max_size));
  std::memcpy(data, out.data(), out.size());
  return out.size();
}
#endif
