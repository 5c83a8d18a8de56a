// headlens/tests: one model, four threads: forwards, states, taps, generation and tokenizers at
// once.
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <thread>

#include "headlens/model/generate.h"
#include "headlens/model/tokenizer.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::make_ids;

constexpr int kThreads = 4;

/// Runs `work(0)` .. `work(3)` at once.
template <typename Work>
void at_once(Work work) {
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) threads.emplace_back([&work, t] { work(t); });
  for (std::thread& thread : threads) thread.join();
}

/// Everything that one forward of a thread makes: each site, the logits with a tap, without one and
/// from a state.
std::map<std::string, Tensor> forward_of(const LanguageModel& model, int thread, bool continues) {
  const c10::NoGradGuard no_grad;
  const Tensor ids = make_ids(2, 11 + thread, model.config().vocab_size);
  testing::Recorder tap;
  std::map<std::string, Tensor> all;
  all["tapped"] = model.forward(ids, {.tap = &tap});
  all.insert(tap.seen.begin(), tap.seen.end());
  all["fused"] = model.forward(ids);
  if (!continues) return all;
  ModelState state;
  model.forward(ids.slice(1, 0, 6), {.state = &state});
  all["continued"] = model.forward(ids.slice(1, 6), {.state = &state});
  return all;
}

/// `continues`: not for ropes that change with the length of the text.
void expect_same_as_alone(const LanguageModel& model, bool continues = true) {
  std::vector<std::map<std::string, Tensor>> alone, together(kThreads);
  for (int t = 0; t < kThreads; ++t) alone.push_back(forward_of(model, t, continues));
  at_once([&](int t) { together[static_cast<size_t>(t)] = forward_of(model, t, continues); });
  for (size_t t = 0; t < kThreads; ++t) {
    ASSERT_EQ(together[t].size(), alone[t].size());
    for (const auto& [name, value] : alone[t]) {
      EXPECT_TRUE(value.equal(together[t].at(name))) << name << " in thread " << t;
    }
  }
}

class ConcurrentForwardTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ConcurrentForwardTest, GivesWhatOneThreadGives) {
  const bool fixed_rope = GetParam() != "llama_dynamic" && GetParam() != "llama_longrope";
  expect_same_as_alone(testing::load_golden(GetParam()), fixed_rope);
}

INSTANTIATE_TEST_SUITE_P(Families, ConcurrentForwardTest,
                         ::testing::ValuesIn(testing::kGoldenModels),
                         [](const auto& instance) { return instance.param; });
INSTANTIATE_TEST_SUITE_P(Ropes, ConcurrentForwardTest,
                         ::testing::Values("llama_dynamic", "llama_longrope", "llama_yarn"),
                         [](const auto& instance) { return instance.param; });

class ConcurrentZooTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ConcurrentZooTest, ForwardsTextsAndTokensAreThoseOfOneThread) {
  const std::filesystem::path dir = std::filesystem::path(HEADLENS_ZOO_DIR) / GetParam();
  const LanguageModel model = LanguageModel::load(dir, {.dtype = at::kFloat});
  expect_same_as_alone(model);
  const Tokenizer tokenizer = Tokenizer::load(dir);
  const auto text_of = [&](int t) {
    GenerateOptions options;
    options.max_new_tokens = 8, options.temperature = 1, options.seed = static_cast<uint64_t>(t);
    const std::string prompt =
        "Paris is the capital of France." + std::string(static_cast<size_t>(t), '7');
    return generate(model, tokenizer, std::vector<std::string>{prompt}, options).front().tokens;
  };
  std::vector<std::vector<int64_t>> alone, together(kThreads);
  for (int t = 0; t < kThreads; ++t) alone.push_back(text_of(t));
  const Tokenizer fresh = Tokenizer::load(dir);  // its caches are empty again
  at_once([&](int t) {
    fresh.encode("Paris is the capital of France." + std::to_string(t));
    together[static_cast<size_t>(t)] = text_of(t);
  });
  EXPECT_EQ(together, alone);
}

INSTANTIATE_TEST_SUITE_P(Zoo, ConcurrentZooTest,
                         ::testing::Values("transformer", "mamba2", "llamba", "falcon-mamba",
                                           "hybrid"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

/// What the ThreadSanitizer build is tried with: HEADLENS_PLANT_RACE=1 makes two threads add to one
/// number, and the sanitizer must end the test (scripts/tsan).
TEST(PlantedRaceTest, IsSeenByTheSanitizer) {
  if (std::getenv("HEADLENS_PLANT_RACE") == nullptr) return;
  int64_t planted = 0;
  at_once([&](int) {
    for (int i = 0; i < 1000; ++i) planted = planted + 1;
  });
  EXPECT_GT(planted, 0);
}

}  // namespace
}  // namespace headlens
