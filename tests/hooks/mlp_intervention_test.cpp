// headlens/tests: cut MLPs against models that go on from other MLP outputs.
#include "headlens/hooks/mlp_intervention.h"

#include <gtest/gtest.h>

#include "headlens/hooks/hook_set.h"
#include "hooks/hook_tools.h"

namespace headlens {
namespace {

using testing::changed_model;
using testing::difference;
using testing::load_model;
using testing::message_of;
using testing::some_ids;

HeadReplacement zeros() {
  return [](const Tensor& outputs, TapPoint) { return at::zeros({1}, outputs.options()); };
}

// Variant 1 of three alone is the model whose down projection writes nothing.
TEST(MlpIntervention, CutsItsVariantsOnly) {
  const LanguageModel model = load_model("llama");
  const LanguageModel without = changed_model("llama", [](auto& weights) {
    for (auto& [name, weight] : weights) {  // and the bias, where there is one
      if (name.starts_with("model.layers.1.mlp.down_proj.")) weight.zero_();
    }
  });
  const Tensor ids = some_ids(2, 7);
  MlpIntervention cut(model.config(), {{1, {false, true, false}}}, zeros());
  const Tensor logits = model.forward(ids.repeat({3, 1}), {.tap = &cut});
  cut.check_touched();
  const Tensor whole = model.forward(ids);
  EXPECT_LT(difference(logits.slice(0, 2, 4), without.forward(ids)), 1e-12);
  EXPECT_LT(difference(logits.slice(0, 0, 2), whole), 1e-12);
  EXPECT_LT(difference(logits.slice(0, 4, 6), whole), 1e-12);
  EXPECT_GT(difference(whole, without.forward(ids)), 1e-3);
}

// In the last layer a position's own logits are all that its MLP can change.
TEST(MlpIntervention, CutsItsPositionsOnly) {
  const LanguageModel model = load_model("llama");
  const int64_t last = model.layer_count() - 1;
  const Tensor ids = some_ids(2, 5);
  const Tensor where = at::tensor({0, 0, 1, 0, 0, 0, 0, 0, 0, 1}, at::kLong).view({2, 5});
  MlpIntervention cut(model.config(), {{last, {true}}}, zeros(), where);
  const Tensor changed =
      (model.forward(ids, {.tap = &cut}) - model.forward(ids)).abs().amax(-1).gt(1e-6);
  EXPECT_TRUE(at::equal(changed, where.to(at::kBool)));
}

TEST(MlpIntervention, TellsWhatItCannotDo) {
  const ModelConfig config = load_model("nemotron_h").config();
  const auto make = [&](std::map<int64_t, std::vector<bool>> variants) {
    return message_of<HookError>([&] { MlpIntervention(config, variants, zeros()); });
  };
  EXPECT_EQ(make({{0, {true}}}), "[ablate] MLP, expected a layer with one, got 0");
  EXPECT_EQ(make({{4, {true}}}), "[ablate] layer, expected 0..3, got 4");
  EXPECT_EQ(make({{1, {false}}}), "[ablate] MLPs to cut, expected at least one, got none");
  const MlpIntervention unused(config, {{1, {true}}}, zeros());
  EXPECT_EQ(message_of<HookError>([&] { unused.check_touched(); }),
            "[ablate] blocks.1.hook_mlp_out, expected the forward to reach it, got no call");
}

}  // namespace
}  // namespace headlens
