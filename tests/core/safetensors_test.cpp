// headlens/tests: safetensors files written by us, read back.
#include "headlens/core/safetensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>

#include "core/check.h"
#include "error_message.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class SafetensorsDtype : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(SafetensorsDtype, RoundTripsEveryShape) {
  const TempDir dir;
  const at::ScalarType dtype = GetParam();
  const Tensor matrix = at::arange(6, at::kLong).remainder(5).reshape({2, 3}).to(dtype);
  const Tensor scalar = at::ones({}, at::kLong).to(dtype);
  const Tensor empty = at::empty({0, 4}, dtype);
  const Tensor odd = at::ones({3}, at::kLong).to(dtype);
  const auto path = dir.path() / "x.safetensors";
  save_safetensors(path, {{"matrix", matrix}, {"scalar", scalar}, {"empty", empty}, {"odd", odd}});

  const auto file = SafetensorsFile::open(path);
  EXPECT_EQ(file.names(), (std::vector<std::string>{"empty", "matrix", "odd", "scalar"}));
  for (const auto& [name, expected] :
       {std::pair("matrix", matrix), {"scalar", scalar}, {"empty", empty}, {"odd", odd}}) {
    const Tensor got = file.tensor(name);
    EXPECT_EQ(got.scalar_type(), dtype) << name;
    EXPECT_EQ(got.sizes(), expected.sizes()) << name;
    EXPECT_TRUE(at::equal(got, expected)) << name;
    EXPECT_EQ(file.info(name).dtype, dtype);
    EXPECT_EQ(file.info(name).bytes(), static_cast<int64_t>(expected.nbytes()));
  }
}

INSTANTIATE_TEST_SUITE_P(All, SafetensorsDtype,
                         ::testing::Values(at::kDouble, at::kFloat, at::kHalf, at::kBFloat16,
                                           at::kLong, at::kInt, at::kShort, at::kChar, at::kByte,
                                           at::kBool),
                         [](const auto& info) { return dtype_name(info.param); });

TEST(Safetensors, KeepsEveryBitOfFloats) {
  const TempDir dir;
  const auto inf = std::numeric_limits<double>::infinity();
  const Tensor values = at::tensor({0.0, -0.0, inf, -inf, 1e-310, std::nan(""), 1.0 / 3.0});
  save_safetensors(dir.path() / "x", {{"v", values}});
  const Tensor got = SafetensorsFile::open(dir.path() / "x").tensor("v");
  EXPECT_TRUE(at::equal(got.view(at::kLong), values.view(at::kLong)));
}

TEST(Safetensors, WritesTheDocumentedBytes) {
  const TempDir dir;
  const auto path = dir.path() / "x";
  save_safetensors(path, {{"a", at::tensor({1, 2}, at::kByte)}}, {{"k", "v"}});
  const std::string header =
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  ASSERT_EQ(header.size(), 78u);  // padded to 80
  EXPECT_EQ(read_bytes(path), std::string("\x50\0\0\0\0\0\0\0", 8) + header + "  \x01\x02");
}

TEST(Safetensors, WritesNoTensorsAtAll) {
  const TempDir dir;
  save_safetensors(dir.path() / "x", {});
  const auto file = SafetensorsFile::open(dir.path() / "x");
  EXPECT_TRUE(file.names().empty());
  EXPECT_TRUE(file.metadata().empty());
}

TEST(Safetensors, IsTheSameFileForAnyOrderOfTensors) {
  const TempDir dir;
  const Tensor a = at::ones({3}, at::kByte);
  const Tensor b = at::ones({2}, at::kDouble);
  save_safetensors(dir.path() / "x", {{"a", a}, {"b", b}});
  save_safetensors(dir.path() / "y", {{"b", b}, {"a", a}});
  EXPECT_EQ(read_bytes(dir.path() / "x"), read_bytes(dir.path() / "y"));
}

TEST(Safetensors, AlignsEveryTensorSoThatNoneIsCopied) {
  const TempDir dir;
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto dtype : {at::kByte, at::kHalf, at::kFloat, at::kDouble}) {
    for (const int size : {1, 3, 5}) {
      tensors.emplace_back(fmt::format("{}.{}", dtype_name(dtype), size), at::ones({size}, dtype));
    }
  }
  save_safetensors(dir.path() / "x", tensors);
  const auto file = SafetensorsFile::open(dir.path() / "x");
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(file.tensor(name).data_ptr(), file.tensor(name).data_ptr()) << name;
  }
}

TEST(Safetensors, WritesStridedTensorsInTheirLogicalOrder) {
  const TempDir dir;
  const Tensor base = at::arange(6, at::kFloat).reshape({2, 3});
  save_safetensors(dir.path() / "x", {{"t", base.t()}, {"e", base.select(0, 1).expand({2, 3})}});
  const auto file = SafetensorsFile::open(dir.path() / "x");
  EXPECT_TRUE(at::equal(file.tensor("t"), base.t()));
  EXPECT_TRUE(at::equal(file.tensor("e"), at::tensor({3.f, 4.f, 5.f, 3.f, 4.f, 5.f}).view({2, 3})));
}

TEST(Safetensors, KeepsMetadataAndOddNames) {
  const TempDir dir;
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"q\"uote", "ü\n"}};
  save_safetensors(dir.path() / "x", {{"ü \"quoted\"\\", at::ones({1})}}, metadata);
  const auto file = SafetensorsFile::open(dir.path() / "x");
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_TRUE(file.has("ü \"quoted\"\\"));
}

TEST(Safetensors, TensorsOutliveTheFileObjectAndTheFile) {
  const TempDir dir;
  Tensor kept;
  {
    save_safetensors(dir.path() / "x", {{"a", at::arange(1000, at::kFloat)}});
    kept = SafetensorsFile::open(dir.path() / "x").tensor("a");
    std::filesystem::remove(dir.path() / "x");
  }
  EXPECT_TRUE(at::equal(kept, at::arange(1000, at::kFloat)));
}

TEST(Safetensors, WritingToATensorLeavesTheFileAlone) {
  const TempDir dir;
  save_safetensors(dir.path() / "x", {{"a", at::zeros({4})}});
  const std::string before = read_bytes(dir.path() / "x");
  SafetensorsFile::open(dir.path() / "x").tensor("a").fill_(7);
  EXPECT_EQ(read_bytes(dir.path() / "x"), before);
}

TEST(Safetensors, ReplacesAFileWhoseTensorsAreBeingRead) {
  const TempDir dir;
  save_safetensors(dir.path() / "x", {{"a", at::zeros({4})}});
  const Tensor old = SafetensorsFile::open(dir.path() / "x").tensor("a");
  save_safetensors(dir.path() / "x", {{"a", old + 1}});
  EXPECT_TRUE(at::equal(old, at::zeros({4})));
  EXPECT_TRUE(at::equal(SafetensorsFile::open(dir.path() / "x").tensor("a"), at::ones({4})));
}

TEST(SaveSafetensors, LeavesNothingBehindWhenItFails) {
  const TempDir dir;
  const auto path = dir.path() / "x";
  EXPECT_EQ(error_message<CheckpointError>([&] {
              save_safetensors(path, {{"a", at::ones({1})}, {"a", at::ones({1})}});
            }),
            "[" + path.string() + "] tensor 'a', expected once, got twice");
  EXPECT_EQ(error_message<CheckpointError>([&] {
              save_safetensors(path, {{"__metadata__", at::ones({1})}});
            }),
            "[" + path.string() +
                "] tensor name, expected neither '' nor '__metadata__', got '__metadata__'");
  EXPECT_EQ(error_message<CheckpointError>([&] {
              save_safetensors(path, {{"a", Tensor()}});
            }),
            "[" + path.string() +
                "] tensor 'a', expected a dense tensor of F64, F32, F16, BF16, I64, I32, I16, I8, "
                "U8, BOOL, got an undefined tensor");
  EXPECT_THROW(save_safetensors(path, {{"a", at::ones({1}, at::kComplexFloat)}}), CheckpointError);
  EXPECT_EQ(error_message<CheckpointError>([&] {
              save_safetensors(path, {{"\xff", at::ones(1)}});
            }),
            "[" + path.string() + "] names and metadata, expected UTF-8, got other bytes");
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  const auto nowhere = dir.path() / "none" / "x";
  EXPECT_EQ(
      error_message<Error>([&] { save_safetensors(nowhere, {}); }),
      "[" + nowhere.string() + "] file, expected to be created, got No such file or directory");
}

TEST(Safetensors, NamesTheMissingTensor) {
  const TempDir dir;
  const auto path = dir.path() / "x";
  save_safetensors(path, {});
  EXPECT_EQ(error_message<CheckpointError>([&] { SafetensorsFile::open(path).tensor("w"); }),
            "[" + path.string() + "] tensor 'w', expected in the file, got none");
}

}  // namespace
}  // namespace headlens
