// headlens/tests: PyTorch files that are cut, lie about their storages or are something else.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/torch_file.h"
#include "support/temp_dir.h"
#include "torch_archive.h"

namespace headlens {
namespace {

using testing::dict_op;
using testing::error_message;
using testing::Member;
using testing::storage_op;
using testing::TempDir;
using testing::tensor_op;
using testing::torch_file_of;
using testing::zip_of;

class TorchFileMalformed : public ::testing::Test {
 protected:
  /// The message without the file's name before it.
  std::string error(const std::string& bytes) const {
    const auto path = dir_.write("w.bin", bytes);
    const std::string message = error_message<CheckpointError>([&] { TorchFile::open(path); });
    const std::string where = "[" + path.string() + "] ";
    EXPECT_EQ(message.substr(0, where.size()), where);
    return message.substr(std::min(where.size(), message.size()));
  }
  std::string tensor_error(const std::string& tensor) const {
    return error(torch_file_of(dict_op({{"w", tensor}})));
  }
  static std::string pickle() {
    return "\x80\x02" + dict_op({{"w", tensor_op(0, {4}, {1})}}) + ".";
  }

  TempDir dir_;
};

TEST_F(TorchFileMalformed, TensorsOutsideTheirStorage) {
  struct Case {
    int64_t offset;
    std::vector<int64_t> shape, strides;
    std::string text;
  };
  constexpr int64_t kHuge = int64_t{1} << 62, kMost = INT64_MAX;
  const std::vector<Case> cases = {
      {1, {4}, {1}, "shape [4], strides [1] from element 1"},
      {0, {5}, {1}, "shape [5], strides [1] from element 0"},
      {0, {4}, {2}, "shape [4], strides [2] from element 0"},
      {5, {}, {}, "shape [], strides [] from element 5"},
      {4, {1}, {1}, "shape [1], strides [1] from element 4"},
      {-1, {1}, {1}, "shape [1], strides [1] from element -1"},
      {0, {2, 2}, {3, 1}, "shape [2, 2], strides [3, 1] from element 0"},
      {0, {2, 2}, {1, 3}, "shape [2, 2], strides [1, 3] from element 0"},
      {kMost, {1}, {1}, "shape [1], strides [1] from element 9223372036854775807"},
      {0, {3}, {kHuge}, "shape [3], strides [4611686018427387904] from element 0"},
      {0,
       {2, 2, 2},
       {kHuge, kHuge, 0},
       "shape [2, 2, 2], strides [4611686018427387904, 4611686018427387904, 0] from element 0"},
      {0, {kMost}, {0}, "shape [9223372036854775807], strides [0] from element 0"},
      {0, {kHuge, 4}, {0, 0}, "shape [4611686018427387904, 4], strides [0, 0] from element 0"},
      {0, {5}, {0}, "shape [5], strides [0] from element 0"},
      {0,
       {kHuge, 0, 4},
       {0, 1, 1},
       "shape [4611686018427387904, 0, 4], strides [0, 1, 1] from element 0"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(tensor_error(tensor_op(c.offset, c.shape, c.strides)),
              "tensor 'w', expected within the 4 elements of its storage, got " + c.text);
  }
  EXPECT_EQ(tensor_error(tensor_op(0, {4}, {1, 1})),
            "tensor 'w', expected as many strides as sizes, got 2 and 1");
}

TEST_F(TorchFileMalformed, StoragesThatAreNotWhatThePickleSays) {
  const auto storage = [&](int64_t elements, const std::string& type) {
    return tensor_error(tensor_op(0, {1}, {1}, storage_op(elements, type)));
  };
  EXPECT_EQ(storage(5, "FloatStorage"), "tensor 'w', expected 20 bytes in storage '0', got 16");
  EXPECT_EQ(storage(3, "FloatStorage"), "tensor 'w', expected 12 bytes in storage '0', got 16");
  EXPECT_EQ(storage(4, "HalfStorage"), "tensor 'w', expected 8 bytes in storage '0', got 16");
  EXPECT_EQ(storage(-4, "FloatStorage"), "tensor 'w', expected -16 bytes in storage '0', got 16");
  EXPECT_NE(storage(INT64_MAX, "DoubleStorage").find("in storage '0', got 16"), std::string::npos);
  EXPECT_EQ(tensor_error(tensor_op(0, {1}, {1}, storage_op(4, "FloatStorage", "1"))),
            "tensor 'w', expected its storage '1' in the archive, got none");
  EXPECT_EQ(tensor_error(tensor_op(0, {1}, {1}, storage_op(4, "FloatStorage", "../data.pkl"))),
            "tensor 'w', expected its storage '../data.pkl' in the archive, got none");
}

TEST_F(TorchFileMalformed, ArchivesOfSomethingElse) {
  const std::string convert =
      "; convert the checkpoint to safetensors (save_pretrained in transformers writes it)";
  EXPECT_EQ(error(zip_of({{"a.npy", "x"}})),
            "archive, expected one data.pkl as torch.save writes it, got none" + convert);
  EXPECT_EQ(error(zip_of({{"a/data.pkl", "x"}, {"b/data.pkl", "x"}})),
            "archive, expected one data.pkl as torch.save writes it, got several" + convert);
  EXPECT_EQ(error(zip_of({{"a/data.pkl", pickle()}, {"a/code/m.py", "x"}})),
            "archive, expected a state dict, got a TorchScript program" + convert);
  EXPECT_EQ(error(zip_of({{"a/data.pkl", pickle()}, {"a/byteorder", "big"}})),
            "byte order, expected little, got big");
  EXPECT_EQ(error("version https://git-lfs.github.com/spec/v1"),
            "file, expected the zip format of PyTorch 1.6 and later, got other bytes" + convert);
  EXPECT_EQ(error(""),
            "file, expected the zip format of PyTorch 1.6 and later, got other bytes" + convert);
}

TEST_F(TorchFileMalformed, CompressedOrCut) {
  const std::string data(16, 'x');
  EXPECT_EQ(
      error(zip_of({{"a/data.pkl", pickle()}, Member{"a/data/0", data, 8}})),
      "member 'a/data/0', expected stored as it is (as torch.save writes it), got it compressed "
      "or encrypted");
  const std::string whole = torch_file_of(dict_op({{"w", tensor_op(0, {4}, {1})}}));
  for (size_t size = 2; size < whole.size(); ++size) {
    EXPECT_EQ(error(whole.substr(0, size)),
              "zip archive, expected its directory at the end, got none (the file is cut short)");
  }
}

TEST_F(TorchFileMalformed, AnyChangedByteGivesALineOrTensorsWithinTheFile) {
  const std::string whole = torch_file_of(dict_op({{"w", tensor_op(0, {2, 2}, {2, 1})}}));
  int opened = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int change : {1, 0x10, 0x80}) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ change);
      const auto path = dir_.write("w.bin", changed);
      try {
        const TorchFile file = TorchFile::open(path);
        for (const std::string& name : file.names()) {
          ASSERT_LE(file.info(name).end, changed.size());
          file.tensor(name).to(at::kDouble).sum();  // touches all of it
        }
        ++opened;
      } catch (const CheckpointError& error) {
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      }
    }
  }
  EXPECT_GT(opened, 0);  // checksums and dates are not looked at
}

TEST_F(TorchFileMalformed, BoolsOfOtherBytes) {
  const auto path = dir_.write(
      "w.bin",
      torch_file_of(dict_op({{"w", tensor_op(0, {16}, {1}, storage_op(16, "BoolStorage"))}})));
  EXPECT_EQ(error_message<CheckpointError>([&] { TorchFile::open(path).tensor("w"); }),
            "[" + path.string() + "] tensor 'w', expected bytes 0 or 1 for bool, got 128");
}

}  // namespace
}  // namespace headlens
