// headlens/tests: a recording beyond its budget is the same recording.
#include "hooks/record_spill.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "headlens/core/device.h"
#include "hooks/hook_tools.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::load_model;
using testing::some_ids;
using testing::TempDir;

std::string saved(const ActivationCache& cache, const std::filesystem::path& path) {
  cache.save(path);
  std::stringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

ActivationCache record(const LanguageModel& model, std::optional<RecordBudget> budget) {
  RecordOptions options;
  options.budget = std::move(budget);
  Recorder recorder(model.config(), {"*"}, options);
  const Tensor ids = some_ids(2, 9).to(model.device());
  for (int i = 0; i < 2; ++i) model.forward(ids, {.tap = &recorder});  // the second replaces
  return recorder.take();
}

TEST(RecordSpill, FilesAreByteForByteThoseOfABoundlessRecording) {
  const TempDir dir;
  for (const char* family : {"llama", "mamba2", "zamba2", "falcon_mamba"}) {
    const LanguageModel model = load_model(family);
    const std::string expected = saved(record(model, std::nullopt), dir.path() / "a");
    const auto whole = static_cast<int64_t>(expected.size());
    for (const int64_t host : {int64_t{0}, whole / 3, int64_t{-1}}) {
      const ActivationCache kept = record(model, RecordBudget{0, host, dir.path()});
      EXPECT_EQ(saved(kept, dir.path() / "b"), expected) << family << " with " << host << " bytes";
    }
  }
}

TEST(RecordSpill, HoldsNoMoreThanItsBudgetInMemory) {
  const TempDir dir;
  RecordSpill spill({0, 100, dir.path()});
  const Tensor x = at::arange(10, at::kDouble);  // 80 bytes
  EXPECT_EQ(spill.place("a", x).data_ptr(), x.data_ptr());
  const Tensor b = spill.place("b", x);
  EXPECT_NE(b.data_ptr(), x.data_ptr());  // in the file
  EXPECT_TRUE(b.equal(x));
  EXPECT_EQ(spill.place("a", x).data_ptr(), x.data_ptr());  // its own room again
  EXPECT_TRUE(spill.place("empty", x.slice(0, 0, 0)).equal(x.slice(0, 0, 0)));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));  // nothing to be left behind
}

TEST(RecordSpill, SaysWhereItCannotWrite) {
  RecordSpill spill({0, 0, "/nowhere"});
  EXPECT_THROW(spill.place("a", at::zeros({3})), Error);
}

TEST(RecordSpill, CudaFillsDeviceThenPinnedHostThenFile) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  const TempDir dir;
  RecordSpill spill({400, 400, dir.path()});
  const Tensor x = at::arange(50, at::TensorOptions(at::kCUDA).dtype(at::kDouble));  // 400 bytes
  const Tensor first = spill.place("a", x), second = spill.place("b", x),
               third = spill.place("c", x);
  EXPECT_TRUE(first.is_cuda());
  EXPECT_TRUE(second.is_cpu() && second.is_pinned());
  EXPECT_TRUE(third.is_cpu() && !third.is_pinned());
  for (const Tensor& kept : {first, second, third}) EXPECT_TRUE(kept.cpu().equal(x.cpu()));
}

TEST(RecordSpill, CudaRecordingIsTheSameWhereverItLies) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  const TempDir dir;
  const LanguageModel model =
      LanguageModel::load(std::filesystem::path(HEADLENS_GOLDEN_DIR) / "llama",
                          {.dtype = at::kFloat, .device = at::kCUDA});
  const std::string expected = saved(record(model, std::nullopt), dir.path() / "a");
  const auto third = static_cast<int64_t>(expected.size()) / 3;
  const ActivationCache kept = record(model, RecordBudget{third, third, dir.path()});
  EXPECT_EQ(saved(kept, dir.path() / "b"), expected);
}

}  // namespace
}  // namespace headlens
