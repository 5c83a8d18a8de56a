// headlens/tests: generated text against whole forwards, against transformers, and by hand.
#include "headlens/model/generate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/error_message.h"
#include "core/json_fields.h"
#include "headlens/core/device.h"
#include "headlens/core/safetensors.h"
#include "headlens/model/decoder.h"
#include "model/model_tools.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::golden_dir;
using testing::kGoldenModels;
using testing::load_golden;
using testing::make_ids;
using testing::TempDir;

using Prompts = std::vector<std::vector<int64_t>>;

std::vector<int64_t> list_of(const Tensor& ids) {
  const Tensor flat = ids.to(at::kCPU).contiguous().view({-1});
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

/// Prompts of 9, 4, 1 and 6 tokens.
Prompts unequal_prompts() {
  const Tensor ids = make_ids(4, 9);
  Prompts prompts;
  for (const auto& [row, length] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 9}, {1, 4}, {2, 1}, {3, 6}}) {
    prompts.push_back(list_of(ids[row].slice(0, 0, length)));
  }
  return prompts;
}

/// The likeliest tokens, a whole forward of the whole text for each.
Generation plain_greedy(const LanguageModel& model, std::vector<int64_t> text, int64_t count) {
  Generation expected;
  for (int64_t i = 0; i < count; ++i) {
    const Tensor logits = model.forward(at::tensor(text, at::kLong).unsqueeze(0))[0][-1];
    const Tensor logprobs = logits.to(at::kCPU, at::kDouble).log_softmax(0);
    text.push_back(logits.argmax(-1).item<int64_t>());
    expected.tokens.push_back(text.back());
    expected.logprobs.push_back(logprobs[text.back()].item<double>());
  }
  return expected;
}

void expect_alike(const Generation& got, const Generation& expected, double close) {
  EXPECT_EQ(got.tokens, expected.tokens);
  ASSERT_EQ(got.logprobs.size(), expected.logprobs.size());
  for (size_t i = 0; i < got.logprobs.size(); ++i) {
    EXPECT_NEAR(got.logprobs[i], expected.logprobs[i], close) << i;
  }
}

GenerateOptions free_running(int64_t tokens) {
  GenerateOptions options;
  options.max_new_tokens = tokens;
  options.ignore_end_tokens = true;
  return options;
}

/// Every model, and those whose rotary positions depend on the length.
std::vector<std::string> models() {
  std::vector<std::string> names = kGoldenModels;
  names.insert(names.end(), {"llama_dynamic", "llama_longrope", "phi3_longrope_long"});
  return names;
}

class GenerateTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GenerateTest, GreedyIsTheArgmaxOfWholeForwards) {
  const Prompts prompts = unequal_prompts();
  // Padded rows are sums in another order than the row alone.
  for (const auto& [dtype, close] : {std::pair(at::kDouble, 1e-10), {at::kFloat, 1e-3}}) {
    const LanguageModel model = load_golden(GetParam(), dtype);
    const auto all = generate(model, prompts, free_running(6));
    ASSERT_EQ(all.size(), prompts.size());
    for (size_t i = 0; i < prompts.size(); ++i) {
      SCOPED_TRACE(i);
      expect_alike(all[i], plain_greedy(model, prompts[i], 6), close);
      EXPECT_EQ(all[i].end, EndReason::Length);
    }
  }
}

TEST_P(GenerateTest, ATapChangesNoNumberAndSeesEveryStep) {
  /// Leaves everything as it is, and counts.
  class Counter : public Tap {
   public:
    bool wants(TapPoint) const override { return true; }
    Tensor visit(TapPoint point, Tensor value) override {
      if (point == TapPoint{Site::ResidPost, 0}) positions.push_back(value.size(1));
      return value;
    }
    std::vector<int64_t> positions;
  };
  const LanguageModel model = load_golden(GetParam());
  const Prompts prompts = unequal_prompts();
  GenerateOptions options = free_running(4);
  const auto unseen = generate(model, prompts, options);
  Counter counter;
  std::vector<int64_t> rows;
  options.tap = &counter;
  options.on_batch = [&](const std::vector<int64_t>& batch) { rows = batch; };
  const auto seen = generate(model, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) expect_alike(seen[i], unseen[i], 1e-10);
  EXPECT_EQ(rows, (std::vector<int64_t>{2, 1, 3, 0}));  // by length
  EXPECT_TRUE(counter.positions == (std::vector<int64_t>{9, 1, 1, 1}) ||
              counter.positions == (std::vector<int64_t>{9, 10, 11, 12}));
}

INSTANTIATE_TEST_SUITE_P(Models, GenerateTest, ::testing::ValuesIn(models()),
                         [](const auto& row) { return row.param; });

// transformers' greedy steps of every golden that has them.
TEST(GenerateGoldenTest, AsTransformersGoesOn) {
  const nlohmann::json manifest = read_json_file(golden_dir("manifest.json"));
  int compared = 0;
  for (const auto& [name, figures] : manifest["families"].items()) {
    if (figures["decode"].is_null()) continue;
    SCOPED_TRACE(name);
    const auto golden = SafetensorsFile::open(golden_dir(name) / "decode.safetensors");
    const Tensor ids = golden.tensor("input_ids"), fed = golden.tensor("new_ids");
    const Tensor logprobs = golden.tensor("step_logits").to(at::kDouble).log_softmax(-1);
    Prompts prompts;
    for (int64_t row = 0; row < ids.size(0); ++row) prompts.push_back(list_of(ids[row]));
    const auto all = generate(load_golden(name, at::kFloat), prompts, free_running(fed.size(1)));
    for (int64_t row = 0; row < ids.size(0); ++row) {
      const Tensor chosen = logprobs[row].gather(1, fed[row].unsqueeze(1)).squeeze(1).contiguous();
      Generation expected;
      expected.tokens = list_of(fed[row]);
      expected.logprobs.assign(chosen.const_data_ptr<double>(),
                               chosen.const_data_ptr<double>() + chosen.numel());
      // A log-probability differs by at most twice what the logits do.
      expect_alike(all[static_cast<size_t>(row)], expected,
                   2 * figures["decode"]["atol"].get<double>());
    }
    ++compared;
  }
  EXPECT_GE(compared, 20);
}

class GenerateTextTest : public ::testing::Test {
 protected:
  /// Words "w0" .. "w96", each its own id, with a space between two.
  static Tokenizer words(const TempDir& dir) {
    nlohmann::json vocab;
    for (int i = 0; i < 97; ++i) vocab["w" + std::to_string(i)] = i;
    const nlohmann::json model = {{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", "w0"}};
    const nlohmann::json file = {{"version", "1.0"},
                                 {"added_tokens", nlohmann::json::array()},
                                 {"normalizer", nullptr},
                                 {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
                                 {"post_processor", nullptr},
                                 {"decoder", nullptr},
                                 {"model", model}};
    return Tokenizer::load(dir.write("tokenizer.json", file.dump()));
  }
  static std::string text_of(const std::vector<int64_t>& tokens, size_t count) {
    std::string text;
    for (size_t i = 0; i < count; ++i) text += " w" + std::to_string(tokens[i]);
    return text;
  }

  TempDir dir_;
  Tokenizer tokenizer_ = words(dir_);
  LanguageModel model_ = load_golden("llama");
  Prompts prompts_ = unequal_prompts();
};

TEST_F(GenerateTextTest, TextGoesOnAfterThePrompt) {
  const auto all = generate(model_, tokenizer_, prompts_, free_running(5));
  for (const Generation& one : all) EXPECT_EQ(one.text, text_of(one.tokens, 5));
  const std::vector<std::string> texts = {tokenizer_.decode(prompts_[1])};
  const auto again = generate(model_, tokenizer_, texts, free_running(5));
  EXPECT_EQ(again[0].tokens, all[1].tokens);
}

TEST_F(GenerateTextTest, StopStringsThatSpanTokensAreCutRight) {
  const auto free = generate(model_, tokenizer_, prompts_, free_running(8));
  // The end of one word, the space, and the start of the next, of the first and the third text.
  GenerateOptions options = free_running(8);
  for (const auto& [row, at] : std::vector<std::pair<size_t, size_t>>{{0, 3}, {2, 5}}) {
    const std::string left = std::to_string(free[row].tokens[at]);
    options.stops.push_back(left.back() + std::string(" w") +
                            std::to_string(free[row].tokens[at + 1]).front());
  }
  const auto all = generate(model_, tokenizer_, prompts_, options);
  int stopped = 0;
  for (size_t row = 0; row < all.size(); ++row) {
    SCOPED_TRACE(row);
    size_t count = 1, at = std::string::npos;
    for (; count <= 8; ++count) {
      const std::string text = text_of(free[row].tokens, count);
      at = std::min(text.find(options.stops[0]), text.find(options.stops[1]));
      if (at != std::string::npos) break;
    }
    const std::vector<int64_t> tokens(free[row].tokens.begin(),
                                      free[row].tokens.begin() + std::min<long>(count, 8));
    EXPECT_EQ(all[row].tokens, tokens);
    EXPECT_EQ(all[row].logprobs.size(), tokens.size());
    EXPECT_EQ(all[row].text, text_of(tokens, tokens.size()).substr(0, at));
    EXPECT_EQ(all[row].end, count <= 8 ? EndReason::StopString : EndReason::Length);
    EXPECT_EQ(all[row].stop.empty(), count > 8);
    stopped += count <= 8;
  }
  EXPECT_GE(stopped, 2);
}

TEST_F(GenerateTextTest, StopAndEndTokensAreNotText) {
  const auto free = generate(model_, tokenizer_, prompts_, free_running(8));
  const int64_t stop = free[1].tokens[4];
  const auto first = std::find(free[1].tokens.begin(), free[1].tokens.end(), stop);
  GenerateOptions options = free_running(8);
  options.stop_tokens = {stop};
  const auto all = generate(model_, tokenizer_, prompts_, options);
  const std::vector<int64_t> tokens(free[1].tokens.begin(), first + 1);
  EXPECT_EQ(all[1].tokens, tokens);
  EXPECT_EQ(all[1].text, text_of(tokens, tokens.size() - 1));
  EXPECT_EQ(all[1].end, EndReason::StopToken);
  EXPECT_STREQ(end_reason_name(all[1].end), "stop_token");
}

TEST_F(GenerateTextTest, TheModelsOwnEndTokensEndATextUnlessIgnored) {
  const auto free = generate(model_, prompts_, free_running(8));
  ModelConfig config = model_.config();
  const auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(golden_dir("llama")));
  config.eos_token_ids = {96, free[3].tokens[2]};
  const LanguageModel model =
      LanguageModel::build(config, WeightScope::from_checkpoint(checkpoint, at::kDouble, at::kCPU));
  GenerateOptions options;
  options.max_new_tokens = 8;
  const auto all = generate(model, prompts_, options);
  EXPECT_EQ(all[3].end, EndReason::EndToken);
  EXPECT_LE(all[3].tokens.size(), 3u);
  options.ignore_end_tokens = true;
  EXPECT_EQ(generate(model, prompts_, options)[3].tokens, free[3].tokens);
}

TEST_F(GenerateTextTest, SameSeedSameTextHoweverBatched) {
  GenerateOptions options = free_running(12);
  options.temperature = 1.5, options.top_p = 0.95, options.seed = 7;
  const auto together = generate(model_, prompts_, options);
  const auto tokens = [](const std::vector<Generation>& all) {
    Prompts lists;
    for (const Generation& one : all) lists.push_back(one.tokens);
    return lists;
  };
  EXPECT_EQ(tokens(together), tokens(generate(model_, prompts_, options)));
  GenerateOptions alone = options;
  alone.max_batch_tokens = 1;
  EXPECT_EQ(tokens(together), tokens(generate(model_, prompts_, alone)));
  // The list in two parts.
  GenerateOptions part = options;
  part.first_number = 2;
  const auto rest = generate(model_, {prompts_[2], prompts_[3]}, part);
  EXPECT_EQ(tokens(rest), (Prompts{together[2].tokens, together[3].tokens}));
  // And otherwise other texts: of one prompt twice, and of another seed.
  const auto twice = generate(model_, {prompts_[0], prompts_[0]}, options);
  EXPECT_NE(twice[0].tokens, twice[1].tokens);
  options.seed = 8;
  EXPECT_NE(tokens(together), tokens(generate(model_, prompts_, options)));
}

TEST_F(GenerateTextTest, SampledTokensFollowTheModelsShares) {
  constexpr int64_t kTexts = 4000;
  GenerateOptions options = free_running(1);
  options.temperature = 0.8;
  const auto all = generate(model_, Prompts(kTexts, prompts_[1]), options);
  const Tensor logits = model_.forward(at::tensor(prompts_[1], at::kLong).unsqueeze(0))[0][-1];
  const Tensor shares = (logits / 0.8).softmax(0);
  std::vector<double> seen(97);
  for (const Generation& one : all) ++seen[static_cast<size_t>(one.tokens[0])];
  for (int64_t token = 0; token < 97; ++token) {
    const double p = shares[token].item<double>();
    // Five deviations: once in two million for each token.
    const double bound = 5 * std::sqrt(kTexts * p * (1 - p)) + 1;
    EXPECT_NEAR(seen[static_cast<size_t>(token)], kTexts * p, bound) << token;
  }
}

TEST_F(GenerateTextTest, WhatDoesNotFitIsRefused) {
  const auto said = [&](const GenerateOptions& options) {
    return error_message<UsageError>([&] { generate(model_, prompts_, options); });
  };
  GenerateOptions options;
  options.max_new_tokens = 0;
  EXPECT_EQ(said(options), "[generate] max_new_tokens, expected 1 or more, got 0");
  options = {};
  options.temperature = -1;
  EXPECT_EQ(said(options), "[generate] temperature, expected 0 or more, got -1");
  options = {};
  options.top_p = 0;
  EXPECT_EQ(said(options), "[generate] top_p, expected above 0 and at most 1, got 0");
  options = {};
  options.stops = {"x"};
  EXPECT_EQ(said(options), "[generate] stops, expected with a tokenizer, got 1 without");
  EXPECT_EQ(error_message<ShapeError>([&] {
              generate(model_, {{1}, {}});
            }),
            "[generate] prompt 1, expected at least 1 token, got 0");
  EXPECT_THROW(generate(model_, {{97}}), ShapeError);
  EXPECT_TRUE(generate(model_, Prompts{}).empty());
  const LanguageModel learned = load_golden("gpt2");
  const int64_t most = learned.config().max_position;
  EXPECT_EQ(generate(learned, {{1, 2}, {3}}, free_running(most - 1))[0].tokens.size(), most - 1u);
  EXPECT_THROW(generate(learned, {{1, 2}, {3}}, free_running(most)), ShapeError);
}

class GenerateCuda : public ::testing::TestWithParam<std::string> {};

TEST_P(GenerateCuda, GreedyIsTheArgmaxOfWholeForwards) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  const LanguageModel model =
      LanguageModel::load(golden_dir(GetParam()), {.dtype = at::kDouble, .device = at::kCUDA});
  const Prompts prompts = unequal_prompts();
  const auto all = generate(model, prompts, free_running(6));
  for (size_t i = 0; i < prompts.size(); ++i) {
    expect_alike(all[i], plain_greedy(model, prompts[i], 6), 1e-5);
  }
  GenerateOptions options = free_running(6);
  options.temperature = 1;
  const auto together = generate(model, prompts, options);
  options.max_batch_tokens = 1;
  const auto alone = generate(model, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(together[i].tokens, alone[i].tokens);
}

INSTANTIATE_TEST_SUITE_P(Models, GenerateCuda, ::testing::ValuesIn(models()),
                         [](const auto& row) { return row.param; });

}  // namespace
}  // namespace headlens
