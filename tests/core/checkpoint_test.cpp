// headlens/tests: checkpoint directories, whole and broken.
#include "headlens/core/checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/safetensors.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

constexpr const char* kIndexName = "model.safetensors.index.json";

/// A directory with config.json and whatever a test adds.
class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() { dir_.write("config.json", "{\"model_type\": \"x\"}"); }

  void save(const std::string& file, const std::vector<std::pair<std::string, Tensor>>& tensors) {
    save_safetensors(dir_.path() / file, tensors);
  }
  void index(const std::string& weight_map) {
    dir_.write(kIndexName, R"({"metadata": {}, "weight_map": )" + weight_map + "}");
  }
  void copy_torch_file(const std::string& name, const std::string& to) {
    std::filesystem::copy_file(std::filesystem::path(HEADLENS_TORCH_FILE_DIR) / (name + ".bin"),
                               dir_.path() / to);
  }
  Checkpoint open() const { return Checkpoint::open(dir_.path()); }
  std::string error() const {
    return error_message<CheckpointError>([&] { open(); });
  }
  /// "[dir/file] "
  std::string at(const std::string& file) const {
    return "[" + (dir_.path() / file).string() + "] ";
  }

  TempDir dir_;
};

TEST_F(CheckpointTest, ReadsOneFile) {
  save("model.safetensors", {{"w", at::ones({2, 3})}, {"b", at::zeros({3}, at::kBFloat16)}});
  const Checkpoint checkpoint = open();
  EXPECT_EQ(checkpoint.path(), dir_.path());
  EXPECT_EQ(checkpoint.config_json(), "{\"model_type\": \"x\"}");
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"b", "w"}));
  EXPECT_TRUE(checkpoint.has("w"));
  EXPECT_FALSE(checkpoint.has("v"));
  EXPECT_TRUE(at::equal(checkpoint.tensor("w"), at::ones({2, 3})));
  EXPECT_EQ(checkpoint.weight_bytes(), 2 * 3 * 4 + 3 * 2);
  EXPECT_EQ(error_message<CheckpointError>([&] { checkpoint.tensor("v"); }),
            "[" + dir_.path().string() + "] tensor 'v', expected in the checkpoint, got none");
}

TEST_F(CheckpointTest, ReadsShardsWithoutCopying) {
  save("m-1.safetensors", {{"a", at::ones({2})}});
  save("sub.safetensors", {{"b", at::zeros({3})}, {"c", at::ones({1})}});
  index(R"({"a": "m-1.safetensors", "b": "sub.safetensors", "c": "sub.safetensors"})");
  const Checkpoint checkpoint = open();
  EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(at::equal(checkpoint.tensor("b"), at::zeros({3})));
  EXPECT_EQ(checkpoint.tensor("b").data_ptr(), checkpoint.tensor("b").data_ptr());
  EXPECT_EQ(checkpoint.weight_bytes(), 24);
}

TEST_F(CheckpointTest, FindsTheTokenizer) {
  save("model.safetensors", {});
  EXPECT_EQ(open().tokenizer_path(), std::nullopt);
  dir_.write("tokenizer.json", "{}");
  EXPECT_EQ(open().tokenizer_path(), dir_.path() / "tokenizer.json");
}

TEST_F(CheckpointTest, FollowsLinksAsAHuggingFaceCacheHasThem) {
  const TempDir blobs;
  save_safetensors(blobs.path() / "blob", {{"a", at::ones({2})}});
  std::filesystem::create_symlink(blobs.path() / "blob", dir_.path() / "s.safetensors");
  index(R"({"a": "s.safetensors"})");
  EXPECT_TRUE(open().has("a"));
}

TEST_F(CheckpointTest, NamesWhatIsMissingFromTheDirectory) {
  EXPECT_EQ(error(), "[" + dir_.path().string() +
                         "] weights, expected model.safetensors, pytorch_model.bin or an index of "
                         "either, got neither");
  const auto none = dir_.path() / "none";
  EXPECT_EQ(error_message<CheckpointError>([&] { Checkpoint::open(none); }),
            "[" + none.string() + "] checkpoint, expected a directory, got nothing there");
  const auto file = dir_.path() / "config.json";
  EXPECT_EQ(error_message<CheckpointError>([&] { Checkpoint::open(file); }),
            "[" + file.string() + "] checkpoint, expected a directory, got a file");
  std::filesystem::remove(file);
  EXPECT_EQ(error(),
            "[" + dir_.path().string() + "] checkpoint, expected a config.json in it, got none");
}

TEST_F(CheckpointTest, SaysWhichWeightsItDoesNotRead) {
  dir_.write("consolidated.00.pth", "x");
  EXPECT_EQ(error(), "[" + dir_.path().string() +
                         "] weights, expected model.safetensors, pytorch_model.bin or an index of "
                         "either, got only consolidated.00.pth");
}

TEST_F(CheckpointTest, ReadsTorchFilesWhereThereAreNoSafetensors) {
  copy_torch_file("module", "pytorch_model.bin");
  EXPECT_EQ(open().names(), (std::vector<std::string>{"down.weight", "norm.bias", "norm.weight",
                                                      "up.bias", "up.weight"}));
  EXPECT_TRUE(at::equal(open().tensor("up.bias"), at::arange(3, at::kFloat)));
  EXPECT_EQ(open().weight_bytes(), 4 * (6 + 6 + 3 + 2 + 2));
  const std::string fingerprint = open().fingerprint();
  EXPECT_EQ(fingerprint.size(), 16u);
  save("model.safetensors", {{"w", at::ones({2})}});
  EXPECT_EQ(open().names(), std::vector<std::string>{"w"});
  EXPECT_NE(open().fingerprint(), fingerprint);
}

TEST_F(CheckpointTest, ReadsTorchShards) {
  copy_torch_file("module", "pytorch_model-00001-of-00001.bin");
  dir_.write("pytorch_model.bin.index.json",
             R"({"weight_map": {"up.weight": "pytorch_model-00001-of-00001.bin"}})");
  EXPECT_EQ(error(), at("pytorch_model.bin.index.json") +
                         "tensor 'down.weight' of shard 'pytorch_model-00001-of-00001.bin', "
                         "expected in the index, got none");
  std::string map;
  for (const char* name : {"down.weight", "norm.bias", "norm.weight", "up.bias", "up.weight"}) {
    map += std::string(map.empty() ? "" : ", ") + "\"" + name +
           R"(": "pytorch_model-00001-of-00001.bin")";
  }
  dir_.write("pytorch_model.bin.index.json", R"({"weight_map": {)" + map + "}}");
  EXPECT_TRUE(open().has("up.bias"));
}

TEST_F(CheckpointTest, KnowsWhichTensorsShareAStorage) {
  copy_torch_file("kinds", "pytorch_model.bin");
  const Checkpoint checkpoint = open();
  EXPECT_EQ(checkpoint.first_name("tied"), "f32");
  EXPECT_EQ(checkpoint.first_name("f32"), "f32");
  EXPECT_EQ(checkpoint.first_name("transposed"), "transposed");  // the same bytes, another tensor
  int64_t bytes = 0;
  for (const std::string& name : checkpoint.names()) bytes += checkpoint.info(name).bytes();
  EXPECT_EQ(checkpoint.weight_bytes(), bytes - 48);
}

TEST_F(CheckpointTest, SaysWhyAFileCannotBeRead) {
  std::filesystem::create_symlink("config.json.loop", dir_.path() / "config.json.loop");
  std::filesystem::remove(dir_.path() / "config.json");
  std::filesystem::create_symlink("config.json.loop", dir_.path() / "config.json");
  const std::string loop = "expected a readable one, got Too many levels of symbolic links";
  EXPECT_EQ(error(), at("config.json") + "file, " + loop);
  std::filesystem::remove(dir_.path() / "config.json");
  std::filesystem::create_directory(dir_.path() / "config.json");
  EXPECT_EQ(error(), at("config.json") + "file, expected a readable one, got a directory");
  std::filesystem::remove(dir_.path() / "config.json");
  dir_.write("config.json", "{}");
  std::filesystem::create_symlink("config.json.loop", dir_.path() / kIndexName);
  EXPECT_EQ(error(), at(kIndexName) + "file, " + loop);
  std::filesystem::create_symlink("gone", dir_.path() / "model.safetensors");
  EXPECT_EQ(error(),
            at("model.safetensors") + "file, expected to be opened, got No such file or directory");
}

TEST_F(CheckpointTest, RefusesAnIndexThatLeavesTheDirectory) {
  for (const std::string entry : {"../m.safetensors", "/m.safetensors", "a/../../m", "", ".."}) {
    index(R"({"a": ")" + entry + R"("})");
    EXPECT_EQ(error(),
              at(kIndexName) + "tensor 'a', expected a file in the directory, got '" + entry + "'");
  }
}

TEST_F(CheckpointTest, RefusesANulInAnIndex) {
  save("a", {{"a", at::ones({1})}});
  for (const std::string entry : {"..\\u0000", "a\\u0000.safetensors", "\\u0000"}) {
    index(R"({"a": ")" + entry + R"("})");
    EXPECT_EQ(error(),
              at(kIndexName) + "tensor 'a', expected a file's name, got one with a NUL in it");
  }
}

TEST_F(CheckpointTest, NamesTheMissingShard) {
  index(R"({"a": "m-1.safetensors"})");
  EXPECT_EQ(error(),
            at(kIndexName) + "shard 'm-1.safetensors', expected in the directory, got none");
}

TEST_F(CheckpointTest, NamesTheTensorThatIndexAndShardDisagreeOn) {
  save("m.safetensors", {{"a", at::ones({1})}});
  index(R"({"a": "m.safetensors", "b": "m.safetensors"})");
  EXPECT_EQ(error(),
            at(kIndexName) + "tensor 'b', expected in shard 'm.safetensors', got none there");

  save("m.safetensors", {{"a", at::ones({1})}, {"extra", at::ones({1})}});
  index(R"({"a": "m.safetensors"})");
  EXPECT_EQ(
      error(),
      at(kIndexName) + "tensor 'extra' of shard 'm.safetensors', expected in the index, got none");

  save("n.safetensors", {{"a", at::ones({1})}, {"b", at::ones({1})}});
  save("m.safetensors", {{"a", at::ones({1})}});
  index(R"({"a": "m.safetensors", "b": "n.safetensors"})");
  EXPECT_EQ(error(), at(kIndexName) +
                         "tensor 'a', expected in shard 'm.safetensors' only, got it "
                         "in 'n.safetensors' too");
}

TEST_F(CheckpointTest, RefusesAMalformedIndex) {
  dir_.write(kIndexName, "{}");
  EXPECT_EQ(error(), at(kIndexName) + "key 'weight_map', expected object, got nothing");
  dir_.write(kIndexName, "[");
  EXPECT_THROW(open(), CheckpointError);
  index(R"({"a": 1})");
  EXPECT_EQ(error(), at(kIndexName) + "key 'weight_map.a', expected string, got integer 1");
}

TEST_F(CheckpointTest, NamesTheBrokenShard) {
  dir_.write("model.safetensors", "cut");
  EXPECT_EQ(error(), at("model.safetensors") + "file size, expected at least 8 bytes, got 3");
}

TEST_F(CheckpointTest, FingerprintFollowsTheContentAndNotThePlace) {
  save("model.safetensors", {{"w", at::ones({100})}});
  const std::string base = open().fingerprint();
  EXPECT_EQ(base.size(), 16u);
  EXPECT_EQ(open().fingerprint(), base);

  const TempDir elsewhere;
  std::filesystem::copy(dir_.path(), elsewhere.path());
  EXPECT_EQ(Checkpoint::open(elsewhere.path()).fingerprint(), base);

  save("model.safetensors", {{"w", at::ones({100}) * 2}});
  const std::string other_weights = open().fingerprint();
  EXPECT_NE(other_weights, base);
  dir_.write("config.json", "{\"model_type\": \"y\"}");
  EXPECT_NE(open().fingerprint(), other_weights);
}

}  // namespace
}  // namespace headlens
