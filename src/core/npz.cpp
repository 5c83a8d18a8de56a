// headlens/core: writing tensors as a NumPy .npz archive.
#include "headlens/core/npz.h"

#include <ATen/ATen.h>
#include <zip.h>

#include <memory>
#include <set>
#include <tuple>

#include "core/check.h"

namespace headlens {
namespace {

/// NumPy's word for a type, little-endian.
std::string numpy_dtype(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return "<f8";
    case at::kFloat:
      return "<f4";
    case at::kHalf:
      return "<f2";
    case at::kLong:
      return "<i8";
    case at::kInt:
      return "<i4";
    case at::kShort:
      return "<i2";
    case at::kChar:
      return "|i1";
    case at::kByte:
      return "|u1";
    case at::kBool:
      return "|b1";
    default:
      HEADLENS_FAIL(CheckpointError, "[npz] dtype, expected one that NumPy has, got {}",
                    dtype_name(dtype));
  }
}

/// The .npy bytes of one tensor (NEP 1, version 1.0): magic, header padded to 64 bytes, data in C
/// order.
std::string npy_bytes(const Tensor& tensor) {
  const Tensor value = (tensor.scalar_type() == at::kBFloat16 ? tensor.to(at::kFloat) : tensor)
                           .to(at::kCPU)
                           .contiguous();
  std::string shape;
  for (const int64_t size : value.sizes()) shape += fmt::format("{},", size);
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                   numpy_dtype(value.scalar_type()), shape);
  constexpr size_t kPrefix = 10, kAlignment = 64;
  const size_t padded = (kPrefix + header.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
  header.resize(padded - kPrefix - 1, ' ');
  header += '\n';
  HEADLENS_CHECK(CheckpointError, header.size() < 65536,
                 "[npz] dimensions, expected a header under 64 KiB, got {} bytes", header.size());
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size() & 255);
  bytes += static_cast<char>(header.size() >> 8);
  bytes += header;
  return bytes.append(static_cast<const char*>(value.const_data_ptr()), value.nbytes());
}

struct Discard {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};

/// Adds one member. `bytes` must live until the archive is closed.
void add_member(zip_t* archive, const std::string& name, const std::string& bytes,
                const std::string& path) {
  zip_source_t* source = zip_source_buffer(archive, bytes.data(), bytes.size(), /*freep=*/0);
  const zip_int64_t index =
      source == nullptr ? -1
                        : zip_file_add(archive, (name + ".npy").c_str(), source, ZIP_FL_ENC_UTF_8);
  if (index < 0) zip_source_free(source);  // the archive has not taken it
  HEADLENS_CHECK(CheckpointError, index >= 0, "[{}] tensor '{}', expected to be added, got: {}",
                 path, name, zip_strerror(archive));
  zip_set_file_compression(archive, static_cast<zip_uint64_t>(index), ZIP_CM_STORE, 0);
}

}  // namespace

void save_npz(const std::filesystem::path& path,
              const std::vector<std::pair<std::string, Tensor>>& tensors) {
  int code = 0;
  std::unique_ptr<zip_t, Discard> guard(zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code));
  if (!guard) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    HEADLENS_FAIL(CheckpointError, "[{}] file, expected to be opened, got {}", path.string(),
                  zip_error_strerror(&error));
  }
  std::set<std::string> names;
  std::vector<std::string> members;
  members.reserve(tensors.size());  // libzip keeps pointers into them
  for (const auto& [name, tensor] : tensors) {
    HEADLENS_CHECK(CheckpointError, !name.empty() && names.insert(name).second,
                   "[{}] tensor name, expected each once and none empty, got '{}'", path.string(),
                   name);
    HEADLENS_CHECK(CheckpointError, name.find('\0') == std::string::npos,
                   "[{}] tensor name, expected one without NUL, got '{}'", path.string(),
                   std::string(name.c_str()) + "\\0...");
    members.push_back(npy_bytes(tensor));
    add_member(guard.get(), name, members.back(), path.string());
  }
  // Closing writes a temporary file beside `path` and renames it: whole or not at all.
  zip_t* archive = guard.get();
  HEADLENS_CHECK(CheckpointError, zip_close(archive) == 0,
                 "[{}] file, expected to be written, got {}", path.string(), zip_strerror(archive));
  std::ignore = guard.release();  // closed already
}

}  // namespace headlens
