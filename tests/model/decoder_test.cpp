// headlens/tests: decoding over preallocated caches against forwards with a growing state.
#include "headlens/model/decoder.h"

#include <gtest/gtest.h>

#include "core/json_fields.h"
#include "headlens/core/device.h"
#include "headlens/core/error.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::golden_dir;
using testing::kGoldenModels;
using testing::largest_difference;
using testing::load_golden;
using testing::make_ids;
using testing::Recorder;

constexpr int64_t kPrompt = 9, kSteps = 6, kRoom = 24;

/// Every model of the manifest: each family and its variants.
std::vector<std::string> every_golden() {
  std::vector<std::string> names;
  const nlohmann::json all = read_json_file(golden_dir("manifest.json"));
  for (const auto& [name, figures] : all["families"].items()) names.push_back(name);
  return names;
}

/// A dtype, and what a step may differ by: shares of the largest logit.
struct Precision {
  at::ScalarType dtype;
  double share;
};

LanguageModel load_on(const std::string& name, at::ScalarType dtype, at::Device device) {
  return LanguageModel::load(golden_dir(name), {.dtype = dtype, .device = device});
}

/// Greedy steps of both, the forward's tokens fed to both. Stops where the forward itself refuses
/// (a text whose length changes its frequencies), and expects that of the decoder too.
void expect_like_forward(const LanguageModel& model, const Tensor& ids, const Tensor& first,
                         const Precision& precision, bool recorded) {
  Decoder decoder(model, ids, {.max_length = kRoom, .first = first});
  ModelState state;
  Tensor logits = model.forward(ids, {.state = &state, .first = first}).select(1, -1);
  const double close = precision.share * logits.abs().max().item<double>();
  EXPECT_LE(largest_difference(decoder.logits(), logits), close) << "prompt";
  for (int64_t step = 0; step < kSteps; ++step) {
    const Tensor token = logits.argmax(-1);
    try {
      logits = model.forward(token.unsqueeze(1), {.state = &state}).select(1, 0);
    } catch (const ShapeError&) {
      EXPECT_THROW(decoder.step(token), ShapeError);
      return;
    }
    EXPECT_LE(largest_difference(decoder.step(token), logits), close) << "step " << step;
    EXPECT_EQ(decoder.position(), kPrompt + step + 1);
  }
  EXPECT_EQ(decoder.recorded(), recorded);
  // What it leaves is what forwards leave.
  const ModelState left = decoder.state();
  EXPECT_EQ(left.position, state.position);
  const Tensor token = logits.argmax(-1).unsqueeze(1);
  ModelState mine = left;
  EXPECT_LE(largest_difference(model.forward(token, {.state = &mine}),
                               model.forward(token, {.state = &state})),
            close);
}

class DecoderTest : public ::testing::TestWithParam<std::string> {};

TEST_P(DecoderTest, LikeForward) {
  // The same sums in another order.
  for (const Precision& precision : {Precision{at::kDouble, 1e-12}, {at::kFloat, 1e-4}}) {
    const LanguageModel model = load_golden(GetParam(), precision.dtype);
    expect_like_forward(model, make_ids(2, kPrompt), {}, precision, /*recorded=*/false);
    const Tensor first = at::tensor({0, 4}, at::kLong);
    expect_like_forward(model, make_ids(2, kPrompt), first, precision, /*recorded=*/false);
  }
}

TEST_P(DecoderTest, GenerateFeedsTheLikeliest) {
  const LanguageModel model = load_golden(GetParam(), at::kDouble);
  const Tensor ids = make_ids(2, kPrompt);
  Decoder decoder(model, ids, {.max_length = kRoom});
  Tensor tokens;
  try {
    tokens = decoder.generate(3);
  } catch (const ShapeError&) {
    GTEST_SKIP() << GetParam() << ": a longer text changes what came before it";
  }
  const Tensor more = decoder.generate(3);
  const Tensor whole = at::cat({ids, tokens, more}, 1);
  const Tensor again = model.forward(whole).argmax(-1).slice(1, kPrompt - 1, -1);
  EXPECT_TRUE(at::equal(at::cat({tokens, more}, 1), again));
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderTest, ::testing::ValuesIn(every_golden()),
                         [](const auto& row) { return row.param; });

class DecoderCuda : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  }
};

// Recorded where no rope looks at lengths on the host, in float64 (LibTorch alone) as well.
TEST_P(DecoderCuda, LikeForward) {
  // Half precision: the fused layers round where forwards round, but sums differ in their last
  // bits, which a few layers of random weights enlarge.
  for (const Precision& precision : {Precision{at::kDouble, 1e-11},
                                     {at::kFloat, 1e-4},
                                     {at::kHalf, 0.03},
                                     {at::kBFloat16, 0.2}}) {
    const LanguageModel model = load_on(GetParam(), precision.dtype, at::kCUDA);
    const Tensor ids = make_ids(2, kPrompt).cuda();
    SCOPED_TRACE(dtype_name(precision.dtype));
    expect_like_forward(model, ids, {}, precision, true);
    expect_like_forward(model, ids.narrow(0, 0, 1), {}, precision, true);
    const Tensor first = at::tensor({0, 4}, at::kLong).cuda();
    expect_like_forward(model, ids, first, precision, true);
  }
}

TEST_P(DecoderCuda, GenerateOnTheDevice) {
  const LanguageModel model = load_on(GetParam(), at::kFloat, at::kCUDA);
  const Tensor ids = make_ids(2, kPrompt).cuda();
  Decoder recorded(model, ids, {.max_length = kRoom});
  Decoder plain(model, ids, {.max_length = kRoom, .record = false});
  EXPECT_TRUE(at::equal(recorded.generate(8), plain.generate(8)));
  EXPECT_TRUE(recorded.recorded());
  EXPECT_FALSE(plain.recorded());
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderCuda, ::testing::ValuesIn(kGoldenModels),
                         [](const auto& row) { return row.param; });

TEST(DecoderPlanTest, LayersOfNormAttentionAndMlpRunFused) {
  const auto fused = [](const std::string& name) {
    const LanguageModel model = load_golden(name);
    const Decoder decoder(model, make_ids(1, kPrompt), {.max_length = kRoom});
    return decoder.fused_layers() == model.layer_count();
  };
  for (const char* name : {"llama", "mistral", "qwen2", "qwen3", "phi3", "phi3_partial"}) {
    EXPECT_TRUE(fused(name)) << name;
  }
  for (const char* name : {"gemma2", "gpt2", "olmo2", "gpt_neox", "mamba"}) {
    EXPECT_FALSE(fused(name)) << name;
  }
}

/// Rows and states of a step against what a tap sees in a forward.
void expect_rows_like_forward(const LanguageModel& model, double close) {
  const at::Device device = model.device();
  const Tensor ids = make_ids(2, kPrompt).to(device);
  Decoder decoder(model, ids, {.max_length = kRoom});
  std::vector<LayerHeads> wanted;
  for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
    for (const HeadBank& bank : head_banks(model.config().layers[static_cast<size_t>(layer)])) {
      if (bank.kind != LayerKind::Attention) continue;
      wanted.push_back({layer, {bank.first + bank.count - 1, bank.first}});
    }
  }
  decoder.show_rows(wanted);
  ModelState state;
  Tensor logits = model.forward(ids, {.state = &state}).select(1, -1);
  for (int64_t step = 0; step < 4; ++step) {
    const Tensor token = logits.argmax(-1);
    Recorder seen;
    logits = model.forward(token.unsqueeze(1), {.tap = &seen, .state = &state}).select(1, 0);
    decoder.step(token);
    for (const LayerHeads& one : wanted) {
      const Tensor pattern = seen.seen[site_name({Site::Pattern, one.layer})].select(2, 0);
      const Tensor heads = at::tensor({pattern.size(1) - 1, int64_t{0}}, ids.options());
      const Tensor rows = decoder.rows(one.layer);
      EXPECT_LE(largest_difference(rows.slice(2, 0, state.position),
                                   pattern.index_select(1, heads).to(rows.scalar_type())),
                close);
      EXPECT_EQ(rows.slice(2, state.position).abs().max().item<double>(), 0);
    }
    for (size_t layer = 0; layer < state.layers.size(); ++layer) {
      const Tensor& ssm = state.layers[layer].ssm;
      if (!ssm.defined()) continue;
      const double scale = ssm.abs().max().item<double>();
      EXPECT_LE(largest_difference(decoder.ssm_state(static_cast<int64_t>(layer)), ssm),
                close * std::max(1.0, scale));
    }
  }
}

class DecoderRowsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(DecoderRowsTest, LikeForward) {
  expect_rows_like_forward(load_golden(GetParam()), 1e-12);
}

TEST_P(DecoderRowsTest, OnCuda) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  // Float32 sums in another order, through up to a dozen layers.
  expect_rows_like_forward(load_on(GetParam(), at::kFloat, at::kCUDA), 5e-5);
  expect_rows_like_forward(load_on(GetParam(), at::kDouble, at::kCUDA), 1e-11);
}

INSTANTIATE_TEST_SUITE_P(Models, DecoderRowsTest, ::testing::ValuesIn(kGoldenModels),
                         [](const auto& row) { return row.param; });

TEST(DecoderTapTest, AStepThatIsSeenIsTheSameStep) {
  for (const char* name : {"llama", "zamba2"}) {
    const LanguageModel model = load_golden(name);
    const Tensor ids = make_ids(2, kPrompt), token = make_ids(2, 1).select(1, 0);
    Decoder plain(model, ids, {.max_length = kRoom}), seen(model, ids, {.max_length = kRoom});
    seen.show_rows({{model.layer_count() - 1, {head_count(model.config().layers.back()) - 1}}});
    Recorder recorder;
    EXPECT_LT(largest_difference(plain.step(token), seen.step(token, &recorder)), 1e-11);
    EXPECT_TRUE(recorder.seen.contains("blocks.0.hook_resid_post"));
    EXPECT_THROW(seen.rows(model.layer_count() - 1), HookError);
    EXPECT_LT(largest_difference(plain.step(token), seen.step(token)), 1e-11);
    EXPECT_NO_THROW(seen.rows(model.layer_count() - 1));
  }
}

TEST(DecoderStopTest, EndsWhenEveryRowHasStopped) {
  const LanguageModel model = load_golden("llama");
  const Tensor ids = make_ids(2, kPrompt);
  const Tensor free = Decoder(model, ids, {.max_length = kRoom}).generate(8);
  const int64_t a = free[0][1].item<int64_t>(), b = free[1][3].item<int64_t>();
  const auto first_of = [&](int64_t row) {
    int64_t place = 0;
    while (free[row][place].item<int64_t>() != a && free[row][place].item<int64_t>() != b) ++place;
    return place;
  };
  Decoder decoder(model, ids, {.max_length = kRoom});
  const Tensor tokens = decoder.generate(8, {a, b});
  ASSERT_EQ(tokens.size(1), std::max(first_of(0), first_of(1)) + 1);
  for (int64_t row = 0; row < 2; ++row) {
    const int64_t last = first_of(row);
    EXPECT_TRUE(at::equal(tokens[row].slice(0, 0, last + 1), free[row].slice(0, 0, last + 1)));
    EXPECT_TRUE(tokens[row].slice(0, last).eq(free[row][last]).all().item<bool>());
  }
  EXPECT_EQ(decoder.position(), kPrompt + tokens.size(1));
}

TEST(DecoderErrorTest, WhatDoesNotFitIsRefused) {
  const LanguageModel model = load_golden("llama");
  const Tensor ids = make_ids(2, kPrompt);
  EXPECT_THROW(Decoder(model, ids, {.max_length = kPrompt - 1}), ShapeError);
  EXPECT_THROW(Decoder(model, ModelState{}, {.max_length = kRoom}), ShapeError);
  Decoder decoder(model, ids, {.max_length = kPrompt + 1});
  EXPECT_THROW(decoder.step(ids.select(1, 0).narrow(0, 0, 1)), ShapeError);
  EXPECT_THROW(decoder.step(at::full({2}, model.config().vocab_size, at::kLong)), ShapeError);
  EXPECT_THROW(decoder.generate(2), ShapeError);
  EXPECT_EQ(decoder.generate(1).size(1), 1);
  EXPECT_THROW(decoder.step(ids.select(1, 0)), ShapeError);
  EXPECT_THROW(decoder.show_rows({{model.layer_count(), {0}}}), HookError);
  EXPECT_THROW(decoder.show_rows({{0, {99}}}), HookError);
  EXPECT_THROW(decoder.rows(0), HookError);
  EXPECT_THROW(decoder.ssm_state(0), HookError);
}

TEST(DecoderStateTest, GoesOnFromAState) {
  const LanguageModel model = load_golden("falcon_h1");
  const Tensor ids = make_ids(2, kPrompt), token = make_ids(2, 1).select(1, 0);
  ModelState state;
  model.forward(ids, {.state = &state});
  Decoder decoder(model, state, {.max_length = kRoom});
  EXPECT_THROW(decoder.generate(1), ShapeError);
  EXPECT_THROW(decoder.logits(), ShapeError);
  const Tensor logits = decoder.step(token).clone();
  EXPECT_EQ(state.position, kPrompt);
  EXPECT_LT(
      largest_difference(logits, model.forward(token.unsqueeze(1), {.state = &state}).select(1, 0)),
      1e-11);
  EXPECT_TRUE(at::equal(decoder.generate(1).select(1, 0), logits.argmax(-1)));
}

}  // namespace
}  // namespace headlens
