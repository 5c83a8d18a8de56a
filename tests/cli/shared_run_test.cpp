// headlens/tests: a run that meets another on its output, or the end of memory.
#include "cli/shared_run.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include "analysis/sweep_memory.h"
#include "cli/command_tools.h"
#include "cli/memory_notice.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/head_scores.h"
#include "headlens/core/device.h"
#include "headlens/core/error.h"
#include "headlens/tasks/objective.h"
#include "headlens/tasks/scoring.h"

namespace headlens::cli {
namespace {

using headlens::testing::headlens;
using headlens::testing::TempDir;

TEST(OutputLock, NamesWhoHoldsItAndIsGoneWithItsHolder) {
  const TempDir dir;
  const auto path = dir.path() / "out.journal.lock";
  {
    const OutputLock lock(path);
    const std::string held = "[out] " + (dir.path() / "out.journal").string() +
                             ", expected no other run to write it, got process " +
                             std::to_string(::getpid()) + " at work";
    for (const auto& take : {std::function<void()>([&] { OutputLock second(path); }),
                             std::function<void()>([&] { OutputLock::check_free(path); })}) {
      try {
        take();
        FAIL() << "two held it";
      } catch (const Error& e) {
        EXPECT_EQ(e.what(), held);
      }
    }
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  dir.write("out.journal.lock", "12345");  // of a process that was killed
  EXPECT_NO_THROW(OutputLock second(path));
}

TEST(SharedRun, HalvesBatchesUntilTheyFit) {
  CommonFlags flags;
  SharedRun run(flags, {}, {});
  std::vector<int64_t> tried;
  run.shrink_to_fit(1000, [&](int64_t tokens, WorkPool&) {
    tried.push_back(tokens);
    if (tokens > 300) throw c10::OutOfMemoryError({__func__, __FILE__, 1}, "none left");
  });
  EXPECT_EQ(tried, (std::vector<int64_t>{1000, 500, 250}));
  ASSERT_TRUE(run.shrunk());
  EXPECT_EQ(run.shrunk()->times, 2);
  EXPECT_EQ(run.shrunk()->tokens, 250);
  std::map<std::string, std::string> options;
  run.note_shrunk(options);
  EXPECT_EQ(options["out_of_memory"], "2");
  EXPECT_EQ(options["batch_tokens_that_fit"], "250");
}

TEST(SharedRun, ThrowsWhatOneTokenStillThrows) {
  CommonFlags flags;
  SharedRun run(flags, {}, {});
  EXPECT_THROW(run.shrink_to_fit(4, [](int64_t, WorkPool&) { throw std::bad_alloc(); }),
               std::bad_alloc);
  EXPECT_THROW(run.shrink_to_fit(4, [](int64_t, WorkPool&) { throw TaskError("[x] y"); }),
               TaskError);
}

TEST(SharedRun, GoesNoLowerThanTheLeast) {
  CommonFlags flags;
  SharedRun run(flags, {}, {});
  std::vector<int64_t> tried;
  const auto work = [&](int64_t tokens, WorkPool&) {
    tried.push_back(tokens);
    throw std::bad_alloc();
  };
  EXPECT_THROW(run.shrink_to_fit(1000, work, 400), std::bad_alloc);
  EXPECT_EQ(tried, (std::vector<int64_t>{1000, 500, 400}));
}

class PredictedMemoryTest : public ::testing::TestWithParam<const char*> {};

TEST_P(PredictedMemoryTest, IsEnoughAndNotFarMore) {
  const std::filesystem::path dir = std::filesystem::path(HEADLENS_ZOO_DIR) / GetParam();
  const LanguageModel model = LanguageModel::load(dir, {.dtype = at::kFloat});
  std::vector<TokenizedExample> examples =
      tokenize(make_task("mcq:options=4,n=256", 0), Tokenizer::load(dir));
  constexpr int64_t kTokens = 8192;
  MemoryWatch watch(model);
  watch.reset_peak();
  const int64_t before = watch.held();
  EvalOptions options;
  options.max_batch_tokens = kTokens;
  evaluate(model, examples, options);
  const int64_t took = watch.peak() - before, predicted = kTokens * token_bytes(model.config());
  EXPECT_LE(took, predicted);
  EXPECT_GE(4 * took, predicted) << took << " taken";
}

TEST_P(PredictedMemoryTest, IsEnoughForScores) {
  const std::filesystem::path dir = std::filesystem::path(HEADLENS_ZOO_DIR) / GetParam();
  const LanguageModel model = LanguageModel::load(dir, {.dtype = at::kFloat});
  const Tensor ids = repeated_tokens(model.config().vocab_size, 40, 50, 0);
  MemoryWatch watch(model);
  watch.reset_peak();
  const int64_t before = watch.held();
  pattern_scores(model, ids, all_heads(model.config(), 16), {.max_batch_tokens = ids.numel()});
  const int64_t took = watch.peak() - before;
  const int64_t predicted =
      ids.numel() * token_bytes(model.config()) + figure_bytes(model.config(), ids.numel());
  EXPECT_LE(took, predicted);
  EXPECT_GE(8 * took, predicted) << took << " taken";
}

INSTANTIATE_TEST_SUITE_P(Zoo, PredictedMemoryTest,
                         ::testing::Values("transformer", "mamba2", "llamba", "hybrid"));

TEST(MemoryCap, RefusesWhatHoldsNoToken) {
  const auto called = headlens({"eval", "zoo:transformer", "--task", "mcq:options=4,n=8",
                                "--device", "cpu", "--max-host-memory", "0.0001", "--quiet"});
  EXPECT_EQ(called.status, 2);
  EXPECT_NE(called.err.find("[memory] cap on memory, expected at least the"), std::string::npos)
      << called.err;
}

TEST(MemoryCap, OfReproduceIsThatOfWhatItRuns) {
  std::vector<std::string> words = {"reproduce",   "C1",
                                    "--models",    "zoo:transformer",
                                    "--retrieval", "mcq:options=4,n=32",
                                    "--related",   "kv:pairs=4,n=8",
                                    "--device",    "cpu",
                                    "--json",      "--quiet"};
  const auto whole = headlens(words);
  ASSERT_EQ(whole.status, 0) << whole.err;
  words.insert(words.end(), {"--max-host-memory", "0.0001"});
  const auto refused = headlens(words);
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("[memory] cap on memory, expected at least the"), std::string::npos)
      << refused.err;
  words.back() = "0.004";  // GiB: some 600 tokens beside the weights
  const auto capped = headlens(words);
  ASSERT_EQ(capped.status, 0) << capped.err;
  const auto a = whole.json(), b = capped.json();
  EXPECT_EQ(a["claims"].size(), 1U);
  EXPECT_EQ(a["claims"][0]["outcomes"][0]["verdict"], b["claims"][0]["outcomes"][0]["verdict"]);
}

TEST(MemoryShortage, CudaShrinksBatchesAndSaysSo) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  const std::vector<std::string> words = {
      "eval",   "zoo:transformer", "--task", "mcq:options=4,n=8192",
      "--json", "--device",        "cuda:0", "--batch-tokens"};
  const auto with = [&](const char* tokens) {
    std::vector<std::string> all = words;
    all.emplace_back(tokens);
    return headlens(all);
  };
  const auto small = with("16384");
  const int64_t leave = int64_t{320} << 20;
  const Tensor taken = at::empty({free_memory({at::Device("cuda:0")}) - leave},
                                 at::TensorOptions(at::Device("cuda:0")).dtype(at::kByte));
  const auto shrunk = with("4000000");
  ASSERT_EQ(shrunk.status, 0) << shrunk.err;
  EXPECT_TRUE(shrunk.json().contains("batch_tokens_that_fit")) << shrunk.err;
  EXPECT_NEAR(shrunk.json()["accuracy"], small.json()["accuracy"], 1e-3);
}

}  // namespace
}  // namespace headlens::cli
