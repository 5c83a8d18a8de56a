// headlens/tests: an attention head trained in place of an SSM head: what moves, and what does not.
#include "headlens/analysis/attention_variant.h"

#include <gtest/gtest.h>

#include <cmath>

#include "analysis/analysis_tools.h"
#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/model/block.h"
#include "hooks/hook_tools.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::load_model;
using testing::make_ids;
using testing::objective_of;
using testing::unlike_examples;

// A head of width w is softmax(q k^T / sqrt(w)) v of the layer's normed input, turned by rotary
// positions, written through its own columns: by loops.
TEST(AttentionVariant, AnAttentionHeadInPlaceIsTheFormula) {
  for (const char* name : {"llamba", "mamba2", "falcon_mamba"}) {
    SCOPED_TRACE(name);
    const LanguageModel model = load_model(name);
    const HeadPlace place{1, 2};
    const HeadBank bank = bank_of(model.config().layers[1], place.head);
    const int64_t width = bank.width, d_model = model.config().d_model, pos = 7;
    const Tensor qkv =
        at::arange(3 * width * d_model, at::kDouble).mul(1.7).sin().view({3 * width, d_model});
    const Tensor ids = make_ids(1, pos);
    const Tensor entering = model.run_layers(model.embed(ids), 0, 1);
    const Tensor x = model.block(1).mixer_norm()(entering)[0];
    const Tensor q = x.mm(qkv.narrow(0, 0, width).t()), k = x.mm(qkv.narrow(0, width, width).t());
    const Tensor v = x.mm(qkv.narrow(0, 2 * width, width).t());
    const auto turned = [&](const Tensor& row, int64_t p) {
      Tensor out = row.clone();
      for (int64_t i = 0; width % 2 == 0 && i < width / 2; ++i) {
        const double angle = static_cast<double>(p) * std::pow(10000, -2.0 * i / width);
        const double a = row[i].item<double>(), b = row[i + width / 2].item<double>();
        out[i] = a * std::cos(angle) - b * std::sin(angle);
        out[i + width / 2] = b * std::cos(angle) + a * std::sin(angle);
      }
      return out;
    };
    Tensor z = at::zeros({pos, width}, at::kDouble);
    for (int64_t i = 0; i < pos; ++i) {
      std::vector<double> weight;
      double sum = 0;
      for (int64_t j = 0; j <= i; ++j) {
        weight.push_back(std::exp(turned(q[i], i).dot(turned(k[j], j)).item<double>() /
                                  std::sqrt(static_cast<double>(width))));
        sum += weight.back();
      }
      for (int64_t j = 0; j <= i; ++j) z[i] += v[j] * weight[static_cast<size_t>(j)] / sum;
    }
    // In the mixer's output, in place of what the head wrote.
    const testing::Watcher before = testing::watch(model, ids);
    const testing::Watcher after = testing::watch(graft_attention_head(model, place, qkv), ids);
    const Tensor columns = model.head_output_weight(1, place.head);  // [d_model, width]
    const Tensor own = before[site_name({Site::MixerZ, 1})][0].select(1, place.head);
    const std::string out = site_name({Site::MixerOut, 1});
    const Tensor expected = before[out][0] + (z - own.reshape({pos, width})).mm(columns.t());
    EXPECT_LE((after[out][0] - expected).abs().max().item<double>(), 1e-10);
  }
}

TEST(AttentionVariant, TrainsOneHeadAndLeavesTheModelAsItIs) {
  const LanguageModel model = load_model("llamba");
  const auto objective = objective_of(unlike_examples());
  const Tensor ids = make_ids(2, 9), logits = model.forward(ids);
  const AttentionVariant variant =
      train_attention_variant(model, *objective, {1, 2}, {.steps = 60, .rate = 0.03});
  EXPECT_LT(variant.last_loss, 0.9 * variant.first_loss);
  EXPECT_TRUE(at::equal(model.forward(ids), logits));
  EXPECT_FALSE(at::equal(variant.fresh.forward(ids), variant.trained.forward(ids)));
  for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
    if (layer == 1) continue;
    EXPECT_EQ(&variant.trained.block(layer), &model.block(layer));
  }
  // The same seed and task give the same head.
  const AttentionVariant again =
      train_attention_variant(model, *objective, {1, 2}, {.steps = 60, .rate = 0.03});
  EXPECT_TRUE(at::equal(again.trained.forward(ids), variant.trained.forward(ids)));
}

TEST(AttentionVariant, SaysWhatItCannotTrain) {
  const LanguageModel llamba = load_model("llamba"), llama = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  const auto wrong = [&](const LanguageModel& model, HeadPlace head, VariantOptions options = {}) {
    return error_message<Error>([&] { train_attention_variant(model, *objective, head, options); });
  };
  EXPECT_EQ(wrong(llama, {0, 0}), "[graft] head 0.0, expected one of an SSM layer, got attention");
  EXPECT_EQ(wrong(llamba, {9, 0}), "[graft] layer of the recipient, expected 0 to 2, got 9");
  EXPECT_EQ(wrong(llamba, {0, 0}, {.steps = 0}),
            "[graft] training steps, expected at least 1, got 0");
  EXPECT_EQ(wrong(llamba, {0, 0}, {.rate = 0}),
            "[graft] training rate, expected a number above 0, got 0");
}

}  // namespace
}  // namespace headlens
