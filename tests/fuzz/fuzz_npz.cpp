// headlens/tests: fuzzes the reader of npz archives.
#include <ATen/core/Tensor.h>

#include "fuzz_tools.h"
#include "headlens/core/npz.h"

namespace {

/// A little-endian number.
std::string number(uint64_t value, int size) {
  std::string out;
  for (int i = 0; i < size; ++i, value >>= 8) out += static_cast<char>(value & 0xff);
  return out;
}

/// An archive whose only member is this array: a header that is mutated keeps an archive around it.
std::string archive_of(std::string_view npy) {
  const std::string name = "a.npy";
  // From the version that is needed to the length of the name; no checksum is looked at.
  const std::string common = number(20, 2) + number(0, 12) + number(npy.size(), 4) +
                             number(npy.size(), 4) + number(name.size(), 2) + number(0, 2);
  std::string out = "PK\3\4" + common + name + std::string(npy);
  const size_t directory = out.size();
  out += "PK\1\2" + number(20, 2) + common + number(0, 14) + name;
  const size_t length = out.size() - directory;
  return out + "PK\5\6" + number(0, 4) + number(1, 2) + number(1, 2) + number(length, 4) +
         number(directory, 4) + number(0, 2);
}

void read_all(const headlens::NpzFile& file, size_t size) {
  using headlens::fuzz::require;
  for (const std::string& name : file.names()) {
    const headlens::TensorInfo& info = file.info(name);
    require(info.begin <= info.end && info.end <= size, "an array in its file");
    const headlens::Tensor tensor = file.tensor(name);
    require(static_cast<uint64_t>(tensor.nbytes()) == info.end - info.begin, "an array's size");
    std::string bytes(info.end - info.begin, '\0');
    file.read(name, 0, bytes.data(), bytes.size());
    tensor.clone();  // follows the strides, which must stay within the array
  }
}

}  // namespace

/// The input: an archive as it is, or, where it begins as an array does, an array in one.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  const std::string_view input = headlens::fuzz::view(data, size);
  const std::string archive =
      input.starts_with("\x93NUMPY") ? archive_of(input) : std::string(input);
  const auto path = scratch.write("golden.npz", archive);
  headlens::fuzz::only_errors([&] { read_all(headlens::NpzFile::open(path), archive.size()); });
  return 0;
}
