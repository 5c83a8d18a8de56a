// headlens/core: reading PyTorch's own weight files, without ever running what is in them.
#include "headlens/core/torch_file.h"

#include <algorithm>
#include <limits>

#include "core/check.h"
#include "core/mapped_file.h"
#include "core/pickled_tensors.h"
#include "core/zip_members.h"

namespace headlens {
namespace {

using Members = std::map<std::string, ZipMember, std::less<>>;

constexpr std::string_view kConvert =
    "convert the checkpoint to safetensors (save_pretrained in transformers writes it)";

void check_is_zip(std::string_view bytes, const std::string& where) {
  constexpr std::string_view kOld("\x80\x02\x8a\x0a",
                                  4);  // a pickled number of ten bytes: its magic
  HEADLENS_CHECK(CheckpointError, bytes.starts_with("PK"),
                 "[{}] file, expected the zip format of PyTorch 1.6 and later, got {}; {}", where,
                 bytes.starts_with(kOld) ? "that of an older version" : "other bytes", kConvert);
}

/// The one folder that torch.save puts everything in, with its slash.
std::string folder_of(const Members& members, const std::string& where) {
  constexpr std::string_view kPickle = "data.pkl";
  std::string folder;
  int found = 0;
  for (const auto& [name, member] : members) {
    const size_t slash = name.find('/');
    if (slash == std::string::npos || name.substr(slash + 1) != kPickle) continue;
    folder = name.substr(0, slash + 1);
    ++found;
  }
  HEADLENS_CHECK(CheckpointError, found == 1,
                 "[{}] archive, expected one data.pkl as torch.save writes it, got {}; {}", where,
                 found == 0 ? "none" : "several", kConvert);
  const bool script = members.contains(folder + "constants.pkl") ||
                      std::any_of(members.begin(), members.end(), [&](const auto& entry) {
                        return entry.first.starts_with(folder + "code/");
                      });
  HEADLENS_CHECK(CheckpointError, !script,
                 "[{}] archive, expected a state dict, got a TorchScript program; {}", where,
                 kConvert);
  return folder;
}

void check_stored(const Members& members, const std::string& where) {
  for (const auto& [name, member] : members) {
    HEADLENS_CHECK(CheckpointError, member.stored,
                   "[{}] member '{}', expected stored as it is (as torch.save writes it), got it "
                   "compressed or encrypted",
                   where, name);
  }
}

std::string_view bytes_of(std::string_view archive, const ZipMember& member) {
  return archive.substr(member.begin, member.size());
}

void check_byte_order(const Members& members, const std::string& folder, std::string_view archive,
                      const std::string& where) {
  const auto it = members.find(folder + "byteorder");
  if (it == members.end()) return;  // before PyTorch 2.1
  const std::string_view order = bytes_of(archive, it->second);
  HEADLENS_CHECK(CheckpointError, order == "little", "[{}] byte order, expected little, got {}",
                 where, order.substr(0, 16));
}

/// Elements from the tensor's first to its last, of which there are at most `most`; 0 if there are
/// none, -1 if that is not so. Elements that share a place are counted each.
int64_t span_of(const PickledTensor& tensor, int64_t most) {
  int64_t last = 0, count = 1, step = 0;
  for (size_t d = 0; d < tensor.shape.size(); ++d) {
    const int64_t size = std::max<int64_t>(tensor.shape[d], 1);
    if (__builtin_mul_overflow(count, size, &count) ||
        __builtin_mul_overflow(size - 1, tensor.strides[d], &step) ||
        __builtin_add_overflow(last, step, &last)) {
      return -1;
    }
  }
  const bool empty = std::ranges::find(tensor.shape, 0) != tensor.shape.end();
  if (last >= most || count > most) return empty && count < INT64_MAX / 16 ? 0 : -1;
  return empty ? 0 : last + 1;
}

/// Checks a tensor against its storage, whatever the pickle says of either.
TensorInfo place(const PickledTensor& tensor, const ZipMember& storage, const std::string& where) {
  const int64_t width = element_size(tensor.dtype);
  const auto held = static_cast<int64_t>(storage.size()) / width;
  HEADLENS_CHECK(
      CheckpointError,
      held == tensor.storage_elements && storage.size() == static_cast<uint64_t>(held * width),
      "{}, expected {} bytes in storage '{}', got {}", where,
      // In double: the number is whatever the file says.
      static_cast<double>(tensor.storage_elements) * static_cast<double>(width), tensor.storage,
      storage.size());
  HEADLENS_CHECK(CheckpointError, tensor.shape.size() == tensor.strides.size(),
                 "{}, expected as many strides as sizes, got {} and {}", where,
                 tensor.strides.size(), tensor.shape.size());
  const bool starts_inside = 0 <= tensor.offset && tensor.offset <= held;
  const int64_t span = starts_inside ? span_of(tensor, held - tensor.offset) : -1;
  HEADLENS_CHECK(
      CheckpointError, span >= 0,
      "{}, expected within the {} elements of its storage, got shape {}, strides {} from "
      "element {}",
      where, held, shape_string(tensor.shape), shape_string(tensor.strides), tensor.offset);
  const uint64_t begin = storage.begin + static_cast<uint64_t>(tensor.offset * width);
  return {tensor.dtype, tensor.shape, tensor.strides, begin,
          begin + static_cast<uint64_t>(span * width)};
}

}  // namespace

TorchFile TorchFile::open(const std::filesystem::path& path) {
  TorchFile out(path);
  const std::string where = path.string();
  const std::string_view bytes(reinterpret_cast<const char*>(out.file().data()), out.file().size());
  check_is_zip(bytes, where);
  const Members members = zip_members(bytes, where);
  const std::string folder = folder_of(members, where);
  check_stored(members, where);
  check_byte_order(members, folder, bytes, where);
  out.set_header(bytes_of(bytes, members.at(folder + "data.pkl")));
  for (const PickledTensor& tensor : read_pickled_tensors(out.header(), where)) {
    const auto storage = members.find(folder + "data/" + tensor.storage);
    HEADLENS_CHECK(CheckpointError, storage != members.end(),
                   "{}, expected its storage '{}' in the archive, got none", out.about(tensor.name),
                   tensor.storage);
    out.add(tensor.name, place(tensor, storage->second, out.about(tensor.name)));
  }
  return out;
}

}  // namespace headlens
