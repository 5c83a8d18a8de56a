// headlens/tests: PyTorch's own weight files, as torch.save writes them.
#include "headlens/core/torch_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "error_message.h"
#include "headlens/core/error.h"
#include "support/temp_dir.h"
#include "torch_archive.h"

namespace headlens {
namespace {

using testing::dict_op;
using testing::error_message;
using testing::TempDir;
using testing::tensor_op;
using testing::torch_file_of;

const std::filesystem::path kFiles = HEADLENS_TORCH_FILE_DIR;

Tensor counted(at::IntArrayRef shape, at::ScalarType dtype = at::kFloat) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::arange(count).reshape(shape).to(dtype);
}

void expect_tensor(const WeightFile& file, const std::string& name, const Tensor& expected) {
  const Tensor got = file.tensor(name);
  EXPECT_EQ(got.scalar_type(), expected.scalar_type()) << name;
  EXPECT_EQ(file.info(name).shape, expected.sizes().vec()) << name;
  EXPECT_EQ(file.info(name).bytes(), static_cast<int64_t>(expected.nbytes())) << name;
  EXPECT_TRUE(at::equal(got, expected)) << name;
}

TEST(TorchFile, ReadsEveryKindOfTensor) {
  const TorchFile file = TorchFile::open(kFiles / "kinds.bin");
  EXPECT_EQ(file.names().size(), 14u);
  expect_tensor(file, "bf16", counted({2, 3}, at::kBFloat16));
  expect_tensor(file, "f16", counted({5}, at::kHalf));
  expect_tensor(file, "f32", counted({4, 3}));
  expect_tensor(file, "f64", counted({1, 1, 2}, at::kDouble));
  expect_tensor(file, "i64", counted({3}, at::kLong));
  expect_tensor(file, "bool", at::tensor({1, 0, 1}, at::kInt).to(at::kBool));
  expect_tensor(file, "scalar", at::scalar_tensor(7.0f));
  expect_tensor(file, "empty", at::zeros({0, 4}));
  expect_tensor(file, "tied", counted({4, 3}));
  expect_tensor(file, "transposed", counted({4, 3}).t());
  expect_tensor(file, "row", counted({4, 3})[2]);
  expect_tensor(file, "columns", counted({3, 8}, at::kBFloat16).slice(1, 2, 4));
  expect_tensor(file, "parameter", counted({2}));
  expect_tensor(file, "frozen", counted({2}));
}

TEST(TorchFile, ViewsTheMappingAndSharesStorages) {
  const TorchFile file = TorchFile::open(kFiles / "kinds.bin");
  EXPECT_EQ(file.tensor("f32").data_ptr(), file.tensor("f32").data_ptr());
  EXPECT_EQ(file.tensor("f32").data_ptr(), file.tensor("tied").data_ptr());
  EXPECT_EQ(file.info("f32"), file.info("tied"));
  EXPECT_TRUE(file.info("f32").is_contiguous());
  EXPECT_TRUE(file.info("row").is_contiguous());
  EXPECT_FALSE(file.info("transposed").is_contiguous());
  EXPECT_FALSE(file.info("columns").is_contiguous());
}

TEST(TorchFile, ReadsStateDictsOfModulesInBothProtocols) {
  for (const char* name : {"module.bin", "protocol4.bin"}) {
    const TorchFile file = TorchFile::open(kFiles / name);
    EXPECT_EQ(file.names(), (std::vector<std::string>{"down.weight", "norm.bias", "norm.weight",
                                                      "up.bias", "up.weight"}));
    expect_tensor(file, "up.weight", counted({3, 2}));
    expect_tensor(file, "norm.bias", counted({2}));
  }
}

TEST(TorchFile, ReadsWhatTheTestsOfMalformedFilesStartFrom) {
  const TempDir dir;
  const auto path = dir.write("w.bin", torch_file_of(dict_op({{"w", tensor_op(1, {2}, {2})}})));
  expect_tensor(TorchFile::open(path), "w", at::tensor({2.0f, 4.0f}));
}

TEST(TorchFile, ReadsBytesOfARange) {
  const TorchFile file = TorchFile::open(kFiles / "kinds.bin");
  std::vector<float> got(3);
  file.read("row", 0, got.data(), 12);
  EXPECT_EQ(got, (std::vector<float>{6, 7, 8}));
  file.read("f32", 8, got.data(), 8);
  EXPECT_EQ(got, (std::vector<float>{2, 3, 8}));
  EXPECT_EQ(error_message<CheckpointError>([&] { file.read("row", 4, got.data(), 12); }),
            "[" + (kFiles / "kinds.bin").string() +
                "] tensor 'row', expected to read within its 12 bytes, got 12 from 4");
}

TEST(TorchFile, SaysWhatElseAFileHolds) {
  constexpr const char* kConvert =
      "; convert the checkpoint to safetensors (save_pretrained in transformers writes it)";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"nested",
       "key 'state_dict', expected a tensor (a state dict is saved by itself), got a dict"},
      {"number", "key 'step', expected a tensor, got an int"},
      {"list", "pickle, expected a dict of tensors, got a list"},
      {"whole_module", "pickle at byte 44, expected only opcodes of a state dict, got 0x81"},
      {"sparse",
       "key 'w', expected a dense tensor, got a call of torch._utils._rebuild_sparse_tensor,"
       " which is not made"},
      {"negated", "key 'w', expected a plain dense tensor, got one with other arguments"},
      {"complex",
       "key 'w', expected a storage of numbers, got torch.ComplexFloatStorage (not "
       "supported)"},
      {"old_format", std::string("file, expected the zip format of PyTorch 1.6 and later, got that "
                                 "of an older version") +
                         kConvert},
      {"script",
       std::string("archive, expected a state dict, got a TorchScript program") + kConvert},
  };
  for (const auto& [name, message] : cases) {
    const auto path = kFiles / (name + ".bin");
    EXPECT_EQ(error_message<CheckpointError>([&] { TorchFile::open(path); }),
              "[" + path.string() + "] " + message);
  }
}

}  // namespace
}  // namespace headlens
