// headlens/tests: aliases that are views hold what the library they come from would show.
#include <gtest/gtest.h>

#include "headlens/hooks/hook_set.h"
#include "headlens/hooks/recorder.h"
#include "hooks/hook_tools.h"

namespace headlens {
namespace {

using testing::difference;
using testing::load_model;
using testing::message_of;
using testing::model_dir;
using testing::some_ids;
using testing::watch;

ActivationCache record(const LanguageModel& model, const std::vector<std::string>& names) {
  Recorder recorder(model.config(), names);
  model.forward(some_ids(2, 6), {.tap = &recorder});
  return recorder.take();
}

TEST(SiteViewTest, StateAtAPosition) {
  const LanguageModel model = load_model("mamba");
  const ActivationCache cache = record(model, {"blocks.1.hook_h.4", "blocks.1.mixer.hook_state"});
  EXPECT_TRUE(
      at::equal(cache["blocks.1.hook_h.4"], cache["blocks.1.mixer.hook_state"].select(1, 4)));
  EXPECT_EQ(message_of<HookError>([&] { record(model, {"blocks.1.hook_h.6"}); }),
            "[hooks] position of 'blocks.1.hook_h.6', expected 0 to 5, got 6");
}

// MambaLens: hook_delta_2 = W_delta_2 hook_delta_1 + bias, before the softplus.
TEST(SiteViewTest, DeltaBeforeItsSoftplusHasTheBias) {
  const LanguageModel model = load_model("mamba");
  const ActivationCache cache = record(model, {"blocks.0.hook_delta_1", "blocks.0.hook_delta_2"});
  const Checkpoint checkpoint = Checkpoint::open(model_dir("mamba"));
  const std::string at_proj = "backbone.layers.0.mixer.dt_proj.";
  const Tensor weight = checkpoint.tensor(at_proj + "weight").to(at::kDouble);
  const Tensor bias = checkpoint.tensor(at_proj + "bias").to(at::kDouble);
  const Tensor expected = at::linear(cache["blocks.0.hook_delta_1"], weight, bias);
  // Going there and back through softplus in float64.
  EXPECT_LT(difference(cache["blocks.0.hook_delta_2"], expected), 1e-11);
}

TEST(SiteViewTest, ShapesOfTheOtherLibraries) {
  const LanguageModel model = load_model("mamba2");
  const std::string m = "blocks.0.mixer.";
  const ActivationCache cache =
      record(model, {m + "out_proj.hook_in", m + "hook_z", m + "conv1d.hook_out", m + "hook_conv"});
  EXPECT_TRUE(at::equal(cache[m + "out_proj.hook_in"], cache[m + "hook_z"].flatten(2)));
  EXPECT_TRUE(at::equal(cache[m + "conv1d.hook_out"], cache[m + "hook_conv"].transpose(1, 2)));
}

TEST(SiteViewTest, HeadCopiesOfTheResidual) {
  const LanguageModel model = load_model("llama");
  const ActivationCache cache = record(model, {"blocks.1.hook_k_input", "blocks.1.hook_resid_pre"});
  const Tensor resid = cache["blocks.1.hook_resid_pre"];
  EXPECT_TRUE(at::equal(cache["blocks.1.hook_k_input"], at::stack({resid, resid}, 2)));
}

// The half of in_proj that goes to the convolution, as MambaLens splits it.
TEST(SiteViewTest, InProjIsTheHalfBeforeTheConvolution) {
  const LanguageModel model = load_model("mamba");
  const ActivationCache cache =
      record(model, {"blocks.0.hook_in_proj", "blocks.0.hook_skip", "blocks.0.mixer.hook_in_proj"});
  const Tensor both = at::cat({cache["blocks.0.hook_in_proj"], cache["blocks.0.hook_skip"]}, -1);
  EXPECT_TRUE(at::equal(both, cache["blocks.0.mixer.hook_in_proj"]));
}

Tensor logits_with_hook(const LanguageModel& model, const std::string& name,
                        const std::function<Tensor(Tensor)>& edit) {
  HookSet hooks(model.config());
  hooks.add(name, [&](TapPoint, Tensor value) { return edit(std::move(value)); });
  const Tensor logits = model.forward(some_ids(2, 6), {.tap = &hooks});
  hooks.check_all_fired();
  return logits;
}

TEST(SiteViewTest, EditsThroughAViewReachTheSite) {
  const LanguageModel mamba2 = load_model("mamba2");
  const Tensor flat = logits_with_hook(mamba2, "blocks.0.mixer.out_proj.hook_in", [](Tensor z) {
    return at::cat({z.slice(2, 0, 18) * 3, z.slice(2, 18)}, 2);  // head 0 is 18 wide
  });
  const Tensor by_head = logits_with_hook(mamba2, "blocks.0.mixer.hook_z", [](Tensor z) {
    return at::cat({z.slice(2, 0, 1) * 3, z.slice(2, 1)}, 2);
  });
  EXPECT_TRUE(at::equal(flat, by_head));

  const LanguageModel mamba = load_model("mamba");
  const Tensor before = logits_with_hook(mamba, "blocks.1.hook_delta_2",
                                         [](const Tensor& delta) { return delta + 1; });
  const Tensor after = logits_with_hook(mamba, "blocks.1.mixer.hook_dt", [](const Tensor& dt) {
    return at::softplus((dt.exp() - 1).log() + 1);
  });
  EXPECT_LT(difference(before, after), 1e-10);
  EXPECT_GT(difference(before, mamba.forward(some_ids(2, 6))), 1e-4);
}

TEST(SiteViewTest, CopiesCanOnlyBeRead) {
  const LanguageModel model = load_model("llama");
  const auto twice = [](const Tensor& value) { return value * 2; };
  EXPECT_EQ(message_of<HookError>([&] { logits_with_hook(model, "blocks.0.ln2.hook_in", twice); }),
            "[hooks] 'blocks.0.ln2.hook_in', expected a site that can be edited, got a copy of "
            "blocks.0.hook_resid_mid");
  EXPECT_EQ(message_of<HookError>([&] { logits_with_hook(model, "blocks.0.hook_q_input", twice); }),
            "[hooks] 'blocks.0.hook_q_input', expected a site that can be edited, got a copy of "
            "blocks.0.hook_resid_pre");
}

}  // namespace
}  // namespace headlens
