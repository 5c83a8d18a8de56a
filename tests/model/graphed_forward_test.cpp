// headlens/tests: replayed forwards give the bytes of plain ones.
#include "headlens/model/graphed_forward.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/device.h"
#include "headlens/core/error.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::golden_dir;
using testing::kGoldenModels;
using testing::load_golden;
using testing::make_ids;

TEST(GraphedForwardTest, OnTheCpuIsTheForward) {
  const c10::NoGradGuard no_grad;
  const LanguageModel model = load_golden("llama");
  GraphedForward graphed(model);
  const Tensor ids = make_ids(2, 11), last = at::full({2, 1}, 10, at::kLong);
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_TRUE(at::equal(graphed(ids), model.forward(ids)));
    EXPECT_TRUE(at::equal(graphed(ids, last), model.forward(ids, {.logit_positions = last})));
  }
  EXPECT_EQ(graphed.recorded(), 0);
}

class GraphedForwardCuda : public ::testing::TestWithParam<std::string> {};

// Three turns: plain, recorded, replayed, each with other ids; a shape with chosen positions; and
// one shape more than are kept.
TEST_P(GraphedForwardCuda, GivesTheSameBytes) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  const c10::NoGradGuard no_grad;
  const LanguageModel model =
      LanguageModel::load(golden_dir(GetParam()), {.dtype = at::kBFloat16, .device = at::kCUDA});
  GraphedForward graphed(model, {.most_shapes = 2});
  const int64_t vocab = model.config().vocab_size;
  at::manual_seed(4);
  for (int turn = 0; turn < 3; ++turn) {
    for (const int64_t pos : {11, 7}) {
      const Tensor ids = at::randint(vocab, {2, pos}, at::kLong);
      const Tensor some = at::randint(pos, {2, 3}, at::kLong);
      EXPECT_TRUE(at::equal(graphed(ids, some), model.forward(ids, {.logit_positions = some})));
    }
  }
  const Tensor ids = at::randint(vocab, {1, 5}, at::kLong);
  EXPECT_TRUE(at::equal(graphed(ids), model.forward(ids)));
  EXPECT_LE(graphed.recorded(), 2);
  const bool by_length = GetParam().find("dynamic") != std::string::npos ||
                         GetParam().find("longrope") != std::string::npos;
  if (!by_length) {
    EXPECT_GE(graphed.recorded(), 1) << "a layer waits for the device";
  }
  const Tensor wrong = at::full({2, 7}, vocab, at::kLong);
  EXPECT_NE(error_message<ShapeError>([&] { graphed(wrong, make_ids(2, 3)); }), "");
}
INSTANTIATE_TEST_SUITE_P(Goldens, GraphedForwardCuda, ::testing::ValuesIn(kGoldenModels),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace headlens
