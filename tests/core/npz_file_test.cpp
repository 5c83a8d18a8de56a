// headlens/tests: reading .npz archives, ours, numpy's, and broken ones.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/npz.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

TEST(NpzFile, GivesBackWhatWasWritten) {
  const TempDir dir;
  const auto path = dir.path() / "a.npz";
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kHalf, at::kLong, at::kInt,
                                     at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors.emplace_back(dtype_name(dtype), at::arange(6).reshape({2, 3}).to(dtype));
  }
  tensors.emplace_back("scalar", at::tensor(2.5));
  tensors.emplace_back("one", at::ones({1}));
  tensors.emplace_back("empty", at::zeros({2, 0, 3}));
  save_npz(path, tensors);
  const NpzFile file = NpzFile::open(path);
  EXPECT_EQ(file.names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(at::equal(file.tensor(name), tensor)) << name;
    EXPECT_EQ(file.tensor(name).scalar_type(), tensor.scalar_type()) << name;
  }
}

TEST(NpzFile, RefusesCutArchives) {
  const TempDir dir;
  const auto path = dir.path() / "a.npz";
  save_npz(path, {{"x", at::ones({64})}});
  const auto whole = std::filesystem::file_size(path);
  for (uintmax_t size = 0; size < whole; ++size) {
    std::stringstream bytes;
    bytes << std::ifstream(path, std::ios::binary).rdbuf();
    const auto cut = dir.write("cut.npz", bytes.str().substr(0, size));
    EXPECT_THROW(NpzFile::open(cut), CheckpointError) << size;
  }
}

/// A changed header of the archive's only array, its length kept.
std::string changed_header(const std::string& from, const std::string& to) {
  const TempDir dir;
  const auto path = dir.path() / "a.npz";
  save_npz(path, {{"x", at::ones({64})}});
  std::stringstream stream;
  stream << std::ifstream(path, std::ios::binary).rdbuf();
  std::string bytes = stream.str();
  const size_t at = bytes.find(from);
  EXPECT_NE(at, std::string::npos);
  bytes.replace(at, from.size(), to);
  const auto changed = dir.write("changed.npz", bytes);
  return error_message<CheckpointError>([&] { NpzFile::open(changed); });
}

TEST(NpzFile, SaysWhatIsWrongWithAnArray) {
  EXPECT_NE(changed_header("<f4", ">f4").find("got '>f4'; convert the array with astype"),
            std::string::npos);
  EXPECT_NE(changed_header("(64,)", "(65,)").find("expected 260 bytes of elements, got 256"),
            std::string::npos);
  EXPECT_NE(changed_header("(64,)", "(-4,)").find("whole numbers"), std::string::npos);
  // Sizes whose product is 0 in 64 bits, and an array of none whose strides have no room there.
  const std::string room(20, ' ');
  for (const char* shape : {"(4294967296,4294967296), }  ", "(0,4611686018427387904,8), }"}) {
    const std::string message = changed_header("(64,), }" + room, shape);
    EXPECT_NE(message.find("expected the shape's elements"), std::string::npos) << message;
  }
  EXPECT_NE(changed_header("'shape'", "'shepe'").find("in the array's header"), std::string::npos);
  EXPECT_NE(changed_header("\x93NUMPY", "\x93NUMPZ").find("numpy.savez"), std::string::npos);
}

}  // namespace
}  // namespace headlens
