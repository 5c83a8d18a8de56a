// headlens/tests: fuzzes what we write ourselves, safetensors and npz: what is read back is the
// same.
#include <ATen/ATen.h>

#include <cstring>

#include "core/zip_members.h"
#include "fuzz_tools.h"
#include "headlens/core/npz.h"
#include "headlens/core/safetensors.h"

namespace {

using headlens::fuzz::require;
using Named = std::vector<std::pair<std::string, headlens::Tensor>>;

headlens::Tensor make_tensor(headlens::fuzz::Bytes& bytes) {
  constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf,  at::kDouble,
                                       at::kLong,  at::kInt,      at::kShort, at::kChar,
                                       at::kByte,  at::kBool};
  const at::ScalarType type = kTypes[bytes.number(std::size(kTypes))];
  std::vector<int64_t> shape(bytes.number(4));
  for (int64_t& size : shape) size = static_cast<int64_t>(bytes.number(5));
  headlens::Tensor tensor = at::empty(shape, type);
  std::string values = bytes.take(tensor.nbytes());
  if (type == at::kBool) {
    for (char& value : values) value = static_cast<char>(value & 1);
  }
  if (!values.empty()) std::memcpy(tensor.mutable_data_ptr(), values.data(), values.size());
  return tensor;
}

std::string bytes_of(const headlens::Tensor& tensor) {
  return {static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()};
}

void check_safetensors(const Named& tensors, const std::map<std::string, std::string>& metadata,
                       const std::filesystem::path& path) {
  headlens::save_safetensors(path, tensors, metadata);
  const auto file = headlens::SafetensorsFile::open(path);  // what we wrote we must read
  require(file.names().size() == tensors.size() && file.metadata() == metadata, "names, metadata");
  for (const auto& [name, tensor] : tensors) {
    const headlens::Tensor back = file.tensor(name);
    require(back.scalar_type() == tensor.scalar_type() && back.sizes() == tensor.sizes() &&
                bytes_of(back) == bytes_of(tensor),
            "a tensor read back from safetensors");
  }
}

void check_npz(const Named& tensors, const std::filesystem::path& path, const std::string& bytes) {
  const auto members = headlens::zip_members(bytes, path.string());
  require(members.size() == tensors.size(), "a member a tensor");
  for (const auto& [name, tensor] : tensors) {
    const auto& member = members.at(name + ".npy");
    const std::string npy = bytes.substr(member.begin, member.size());
    const size_t header =
        10 + static_cast<uint8_t>(npy.at(8)) + 256 * static_cast<uint8_t>(npy.at(9));
    require(member.stored && npy.starts_with("\x93NUMPY") && header % 64 == 0, "a .npy member");
    const headlens::Tensor value =
        tensor.scalar_type() == at::kBFloat16 ? tensor.to(at::kFloat) : tensor;
    require(npy.substr(header) == bytes_of(value), "a tensor read back from npz");
  }
}

std::string all_of(const std::filesystem::path& path) {
  std::string bytes(std::filesystem::file_size(path), '\0');
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  require(::read(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()), "a read");
  ::close(fd);
  return bytes;
}

}  // namespace

/// The input: dtypes, shapes, names and values of up to three tensors.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  headlens::fuzz::Bytes bytes(headlens::fuzz::view(data, size));
  Named tensors;
  std::map<std::string, std::string> metadata;
  for (size_t i = bytes.number(4); i > 0; --i) {
    std::string name = bytes.take(bytes.number(12));
    tensors.emplace_back(std::move(name), make_tensor(bytes));
  }
  if (!bytes.empty()) metadata[bytes.take(bytes.number(6))] = bytes.take(bytes.number(6));
  headlens::fuzz::only_errors(
      [&] { check_safetensors(tensors, metadata, scratch.path("t.safetensors")); });
  bool written = false;
  headlens::fuzz::only_errors([&] {
    headlens::save_npz(scratch.path("t.npz"), tensors);
    written = true;
  });
  if (written && !tensors.empty()) check_npz(tensors, "t.npz", all_of(scratch.path("t.npz")));
  return 0;
}
