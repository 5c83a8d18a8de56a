// headlens/tests: scoped access to weights.
#include "headlens/core/weight_scope.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/safetensors.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

WeightScope small_map(at::ScalarType dtype = at::kFloat) {
  return WeightScope::from_map({{"wte.weight", at::ones({5, 2})},
                                {"h.0.attn.bias", at::zeros({3})},
                                {"h.0.attn.weight", at::ones({2, 3})},
                                {"h.10.ids", at::arange(4, at::kLong)}},
                               dtype, at::kCPU);
}

TEST(WeightScope, JoinsNamesWithDots) {
  const WeightScope root = small_map();
  const WeightScope attn = root.scope("h.0").scope("attn");
  EXPECT_EQ(root.path(""), "");
  EXPECT_EQ(root.path("wte"), "wte");
  EXPECT_EQ(attn.path("weight"), "h.0.attn.weight");
  EXPECT_EQ(attn.path(""), "h.0.attn");
  EXPECT_TRUE(attn.has("weight"));
  EXPECT_FALSE(attn.has("wte.weight"));
  EXPECT_TRUE(at::equal(attn.get("weight", {2, 3}), at::ones({2, 3})));
}

TEST(WeightScope, NamesTheMissingAndTheMisshapenWeight) {
  const WeightScope h0 = small_map().scope("h.0");
  EXPECT_EQ(error_message<CheckpointError>([&] {
              h0.get("mlp.weight", {4, 2});
            }),
            "[weights] tensor 'h.0.mlp.weight', expected shape [4, 2], got no such tensor");
  EXPECT_EQ(error_message<CheckpointError>([&] {
              h0.get("attn.weight", {3, 2});
            }),
            "[weights] tensor 'h.0.attn.weight', expected shape [3, 2], got [2, 3]");
  EXPECT_EQ(error_message<CheckpointError>([&] { h0.get("attn.weight", {6}); }),
            "[weights] tensor 'h.0.attn.weight', expected shape [6], got [2, 3]");
  EXPECT_EQ(error_message<CheckpointError>([&] { h0.get_optional("attn.bias", {2}); }),
            "[weights] tensor 'h.0.attn.bias', expected shape [2], got [3]");
  EXPECT_FALSE(h0.get_optional("mlp.weight", {4, 2}).defined());
}

TEST(WeightScope, ConvertsFloatsOnlyAndSharesTheResult) {
  const WeightScope root = small_map(at::kBFloat16);
  const Tensor first = root.get("wte.weight", {5, 2});
  EXPECT_EQ(first.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(first.is_same(root.scope("wte").get("weight", {5, 2})));
  EXPECT_EQ(root.get("h.10.ids", {4}).scalar_type(), at::kLong);

  const WeightScope precise = root.with_dtype(at::kDouble);
  EXPECT_EQ(precise.get("wte.weight", {5, 2}).scalar_type(), at::kDouble);
  EXPECT_TRUE(first.is_same(root.get("wte.weight", {5, 2})));
  EXPECT_EQ(precise.scope("wte").dtype(), at::kDouble);
}

TEST(WeightScope, GivesBackTheSameHandleWhenNothingChanges) {
  const Tensor weight = at::ones({2});
  const WeightScope root = WeightScope::from_map({{"w", weight}}, at::kFloat, at::kCPU);
  EXPECT_TRUE(root.get("w", {2}).is_same(weight));
}

TEST(WeightScope, ListsWhatIsUnreadBelowAScope) {
  const WeightScope root = small_map();
  root.get("h.0.attn.weight", {2, 3});
  EXPECT_TRUE(root.has("wte.weight"));  // asking is not reading
  EXPECT_EQ(root.unread(), (std::vector<std::string>{"h.0.attn.bias", "h.10.ids", "wte.weight"}));
  EXPECT_EQ(root.scope("h.0").unread(), (std::vector<std::string>{"h.0.attn.bias"}));
  EXPECT_EQ(root.scope("h.1").unread(), std::vector<std::string>{});  // not h.10
}

TEST(WeightScope, NamesTheUnreadWeightsSaveTheIgnored) {
  const WeightScope root = small_map();
  root.get("wte.weight", {5, 2});
  EXPECT_EQ(error_message<CheckpointError>([&] { root.check_all_read(); }),
            "[weights] tensors, expected all to be read, got 3 unread: h.0.attn.bias, "
            "h.0.attn.weight, h.10.ids");
  EXPECT_EQ(error_message<CheckpointError>([&] {
              root.check_all_read({"*.bias", "*.ids"});
            }),
            "[weights] tensors, expected all to be read, got 1 unread: h.0.attn.weight");
  EXPECT_NO_THROW(root.check_all_read({"h.*"}));
  const std::vector<std::string> ignored = {"h.[0-9]*"};
  EXPECT_NO_THROW(root.check_all_read(ignored));
}

TEST(WeightScope, CutsALongListOfUnreadWeights) {
  std::map<std::string, Tensor> many;
  for (char c = 'a'; c < 'm'; ++c) many.emplace(std::string(1, c), at::ones({1}));
  const WeightScope root = WeightScope::from_map(std::move(many), at::kFloat, at::kCPU);
  EXPECT_EQ(error_message<CheckpointError>([&] { root.check_all_read(); }),
            "[weights] tensors, expected all to be read, got 12 unread: a, b, c, d, e, f, g, h, "
            "...");
}

TEST(WeightScope, ViewsTheCheckpointFileWhenTheDtypeIsTheSame) {
  const TempDir dir;
  dir.write("config.json", "{}");
  save_safetensors(dir.path() / "model.safetensors",
                   {{"w", at::ones({4}, at::kBFloat16)}, {"v", at::ones({2})}});
  const auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(dir.path()));
  const WeightScope root = WeightScope::from_checkpoint(checkpoint, at::kBFloat16, at::kCPU);
  EXPECT_EQ(root.get("w", {4}).data_ptr(), checkpoint->tensor("w").data_ptr());
  EXPECT_TRUE(root.get("w", {4}).is_same(root.get("w", {4})));
  EXPECT_EQ(root.get("v", {2}).scalar_type(), at::kBFloat16);
  EXPECT_NO_THROW(root.check_all_read());
  EXPECT_EQ(error_message<CheckpointError>([&] { root.get("w", {5}); }),
            "[" + dir.path().string() + "] tensor 'w', expected shape [5], got [4]");
}

/// A directory with the PyTorch file of every kind of tensor.
std::shared_ptr<const Checkpoint> torch_checkpoint(const TempDir& dir) {
  dir.write("config.json", "{}");
  std::filesystem::copy_file(std::filesystem::path(HEADLENS_TORCH_FILE_DIR) / "kinds.bin",
                             dir.path() / "pytorch_model.bin");
  return std::make_shared<const Checkpoint>(Checkpoint::open(dir.path()));
}

TEST(WeightScope, GivesNamesOfOneStorageOneTensor) {
  const TempDir dir;
  const auto checkpoint = torch_checkpoint(dir);
  const WeightScope root = WeightScope::from_checkpoint(checkpoint, at::kDouble, at::kCPU);
  EXPECT_TRUE(root.get("tied", {4, 3}).is_same(root.get("f32", {4, 3})));
  const Tensor transposed = root.get("transposed", {3, 4});
  EXPECT_TRUE(transposed.is_contiguous());
  EXPECT_TRUE(at::equal(transposed, root.get("f32", {4, 3}).t()));
}

TEST(WeightScope, PutsWeightsOnTheDeviceAskedFor) {
  const TempDir dir;
  const WeightScope root =
      WeightScope::from_checkpoint(torch_checkpoint(dir), at::kFloat, at::kCPU);
  const WeightScope other = root.on(at::kMeta);
  EXPECT_EQ(other.device(), at::kMeta);
  EXPECT_EQ(other.scope("x").device(), at::kMeta);
  EXPECT_EQ(other.get("bf16", {2, 3}).device(), at::kMeta);
  EXPECT_EQ(other.get("bf16", {2, 3}).scalar_type(), at::kFloat);
  EXPECT_EQ(root.get("bf16", {2, 3}).device(), at::kCPU);
  EXPECT_TRUE(root.get("bf16", {2, 3}).is_same(root.get("bf16", {2, 3})));
}

TEST(WeightScope, TellsHowFarLoadingIs) {
  const TempDir dir;
  const auto checkpoint = torch_checkpoint(dir);
  std::vector<std::pair<int64_t, int64_t>> told;
  const auto note = [&](int64_t done, int64_t total) { told.emplace_back(done, total); };
  const WeightScope root = WeightScope::from_checkpoint(checkpoint, at::kFloat, at::kCPU, note);
  root.get("f32", {4, 3});
  root.get("tied", {4, 3});  // read already
  root.on(at::kMeta).get("bf16", {2, 3});
  const int64_t total = checkpoint->weight_bytes();
  EXPECT_EQ(told, (std::vector<std::pair<int64_t, int64_t>>{{48, total}, {60, total}}));
}

/// Bytes of mapped files that this process holds in memory.
int64_t resident_file_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssFile:")) return std::stoll(line.substr(8)) * 1024;
  }
  return -1;
}

TEST(WeightScope, ConvertingKeepsNothingOfTheFileInMemory) {
  constexpr int64_t kElements = 1 << 22, kMany = 4;  // 8 MiB each
  const TempDir dir;
  dir.write("config.json", "{}");
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (int64_t i = 0; i < kMany; ++i) {
    tensors.emplace_back(std::to_string(i), at::full({kElements}, i, at::kBFloat16));
  }
  save_safetensors(dir.path() / "model.safetensors", tensors);
  const auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(dir.path()));
  const WeightScope root = WeightScope::from_checkpoint(checkpoint, at::kFloat, at::kCPU);
  root.get("0", {kElements});  // and whatever code this pages in
  const int64_t before = resident_file_bytes();
  ASSERT_GT(before, 0);
  for (int64_t i = 1; i < kMany; ++i) {
    EXPECT_TRUE(root.get(std::to_string(i), {kElements}).eq(i).all().item<bool>());
  }
  EXPECT_LT(resident_file_bytes() - before, kElements);  // half a tensor
  // A view is the file, and stays.
  const WeightScope stored = WeightScope::from_checkpoint(checkpoint, at::kBFloat16, at::kCPU);
  EXPECT_TRUE(stored.get("1", {kElements}).eq(1).all().item<bool>());
  EXPECT_GE(resident_file_bytes() - before, 2 * kElements);
}

TEST(WeightScope, RefusesNullAndUndefined) {
  EXPECT_EQ(error_message<CheckpointError>(
                [] { WeightScope::from_checkpoint(nullptr, at::kFloat, at::kCPU); }),
            "[WeightScope] expected a checkpoint, got a null pointer");
  EXPECT_EQ(error_message<CheckpointError>([] {
              WeightScope::from_map({{"w", Tensor()}}, at::kFloat, at::kCPU);
            }),
            "[weights] tensor 'w', expected a tensor, got an undefined one");
}

TEST(WeightScope, MakesEachWeightOnceFromAGenerator) {
  std::vector<std::string> made;
  const auto generator = [&](const std::string& name, at::IntArrayRef shape) {
    made.push_back(name);
    return name == "bad" ? Tensor() : at::full(shape, 3.0);
  };
  const WeightScope root = WeightScope::from_generator(generator, at::kDouble, at::kCPU);
  EXPECT_TRUE(root.has("anything"));
  EXPECT_TRUE(made.empty());
  const Tensor first = root.scope("h").get("w", {2, 2});
  EXPECT_TRUE(at::equal(first, at::full({2, 2}, 3.0, at::kDouble)));
  EXPECT_TRUE(root.get("h.w", {2, 2}).is_same(first));
  EXPECT_EQ(made, (std::vector<std::string>{"h.w"}));
  EXPECT_EQ(error_message<CheckpointError>([&] { root.get("h.w", {4}); }),
            "[weights] tensor 'h.w', expected shape [4], got [2, 2]");
  EXPECT_EQ(error_message<CheckpointError>([&] { root.get("bad", {4}); }),
            "[weights] tensor 'bad', expected a tensor, got an undefined one");
  EXPECT_NO_THROW(root.check_all_read());
}

TEST(WeightScope, GivesOneTensorToManyThreads) {
  const WeightScope root = small_map(at::kDouble);
  std::vector<Tensor> got(8);
  std::vector<std::thread> threads;
  for (Tensor& slot : got) {
    threads.emplace_back([&root, &slot] { slot = root.get("wte.weight", {5, 2}); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Tensor& tensor : got) EXPECT_TRUE(tensor.is_same(got[0]));
}

}  // namespace
}  // namespace headlens
