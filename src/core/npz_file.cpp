// headlens/core: reading tensors from a NumPy .npz archive.
#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "core/check.h"
#include "core/mapped_file.h"
#include "core/zip_members.h"
#include "headlens/core/npz.h"

namespace headlens {
namespace {

constexpr std::string_view kMember = ".npy", kMagic("\x93NUMPY", 6);
constexpr const char* kRewrite = "numpy.savez (not savez_compressed) writes what is read here";

/// Every type that save_npz writes, little-endian.
std::optional<at::ScalarType> dtype_of(std::string_view numpy) {
  static const std::map<std::string_view, at::ScalarType> kTypes = {
      {"<f8", at::kDouble}, {"<f4", at::kFloat}, {"<f2", at::kHalf},
      {"<i8", at::kLong},   {"<i4", at::kInt},   {"<i2", at::kShort},
      {"|i1", at::kChar},   {"|u1", at::kByte},  {"|b1", at::kBool}};
  const auto found = kTypes.find(numpy);
  return found == kTypes.end() ? std::nullopt : std::optional(found->second);
}

/// The header of one .npy: a Python dict of three known keys.
class NpyHeader {
 public:
  NpyHeader(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {}

  at::ScalarType dtype() const {
    const std::string_view word = between("'descr': '", "'");
    const auto found = dtype_of(word);
    HEADLENS_CHECK(CheckpointError, found.has_value(),
                   "{}, expected little-endian numbers of 16, 32 or 64 bits, bytes or bools, got "
                   "'{}'; convert the array with astype before saving it",
                   where_, word);
    return *found;
  }

  bool fortran() const { return between("'fortran_order': ", ",") == "True"; }

  std::vector<int64_t> shape() const {
    std::string_view rest = between("'shape': (", ")");
    std::vector<int64_t> sizes;
    while (!rest.empty()) {
      const size_t begin = rest.find_first_not_of(", ");
      if (begin == std::string_view::npos) break;
      rest.remove_prefix(begin);
      int64_t size = -1;
      const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), size);
      HEADLENS_CHECK(CheckpointError, error == std::errc() && size >= 0,
                     "{}, expected a shape of whole numbers, got '{}'; {}", where_, rest, kRewrite);
      rest.remove_prefix(static_cast<size_t>(end - rest.data()));
      sizes.push_back(size);
    }
    return sizes;
  }

 private:
  std::string_view between(std::string_view before, std::string_view after) const {
    const size_t at = text_.find(before);
    const size_t begin = at == std::string_view::npos ? at : at + before.size();
    const size_t end = begin == std::string_view::npos ? begin : text_.find(after, begin);
    HEADLENS_CHECK(CheckpointError, end != std::string_view::npos,
                   "{}, expected {} in the array's header, got a header without; {}", where_,
                   before, kRewrite);
    return text_.substr(begin, end - begin);
  }

  std::string_view text_;
  std::string where_;
};

std::vector<int64_t> strides_of(const std::vector<int64_t>& shape, bool fortran) {
  std::vector<int64_t> strides(shape.size());
  int64_t step = 1;
  for (size_t i = 0; i < shape.size(); ++i) {
    const size_t d = fortran ? i : shape.size() - 1 - i;
    strides[d] = step;
    step *= shape[d];
  }
  return strides;
}

/// The number of header bytes and where they begin, by the format's version.
std::pair<uint64_t, uint64_t> header_range(std::string_view npy, const std::string& where) {
  const bool known = npy.size() >= 10 && npy.starts_with(kMagic) && npy[6] >= 1 && npy[6] <= 3;
  HEADLENS_CHECK(CheckpointError, known,
                 "{}, expected an array in the .npy format, got other "
                 "bytes; {}",
                 where, kRewrite);
  const uint64_t width = npy[6] == 1 ? 2 : 4, begin = 8 + width;
  HEADLENS_CHECK(CheckpointError, npy.size() >= begin,
                 "{}, expected a whole header, got {} bytes; "
                 "copy the file again",
                 where, npy.size());
  uint64_t length = 0;
  for (uint64_t i = 0; i < width; ++i) {
    length |= static_cast<uint64_t>(static_cast<unsigned char>(npy[8 + i])) << (8 * i);
  }
  HEADLENS_CHECK(CheckpointError, length <= npy.size() - begin,
                 "{}, expected a header of at most {} bytes, got {}; copy the file again", where,
                 npy.size() - begin, length);
  return {begin, length};
}

/// What the array stored at `begin` of the archive says of itself.
TensorInfo array_info(std::string_view npy, uint64_t begin, const std::string& where) {
  const auto [from, length] = header_range(npy, where);
  const NpyHeader header(npy.substr(from, length), where);
  TensorInfo info{header.dtype(), header.shape(), {}, begin + from + length, begin + npy.size()};
  // Strides multiply the other sizes of an empty array too: none of the products may overflow.
  int64_t span = static_cast<int64_t>(element_size(info.dtype));
  bool fits = true, empty = false;
  for (const int64_t size : info.shape) {
    fits = fits && !__builtin_mul_overflow(span, std::max<int64_t>(size, 1), &span);
    empty = empty || size == 0;
  }
  HEADLENS_CHECK(CheckpointError, fits,
                 "{}, expected the shape's elements in the file, got fewer bytes; copy the file "
                 "again",
                 where);
  const uint64_t bytes = empty ? 0 : static_cast<uint64_t>(span);
  HEADLENS_CHECK(CheckpointError, bytes == info.end - info.begin,
                 "{}, expected {} bytes of elements, got {}; copy the file again", where, bytes,
                 info.end - info.begin);
  info.strides = strides_of(info.shape, header.fortran());
  return info;
}

}  // namespace

NpzFile NpzFile::open(const std::filesystem::path& path) {
  NpzFile out(path);
  const std::string where = path.string();
  const std::string_view bytes(reinterpret_cast<const char*>(out.file().data()), out.file().size());
  for (const auto& [name, member] : zip_members(bytes, where)) {
    HEADLENS_CHECK(CheckpointError, name.ends_with(kMember) && name.size() > kMember.size(),
                   "[{}] member '{}', expected arrays (*.npy) only, got another file; {}", where,
                   name, kRewrite);
    const std::string tensor = name.substr(0, name.size() - kMember.size());
    const std::string about = out.about(tensor);
    HEADLENS_CHECK(CheckpointError, member.stored,
                   "{}, expected it uncompressed, got it packed; {}", about, kRewrite);
    out.add(tensor, array_info(bytes.substr(member.begin, member.size()), member.begin, about));
  }
  return out;
}

}  // namespace headlens
