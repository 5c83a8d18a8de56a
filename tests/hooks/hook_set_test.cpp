// headlens/tests: hooks fire where they should, live as long as their scope, and say when they did
// not fire.
#include "headlens/hooks/hook_set.h"

#include <gtest/gtest.h>

#include "headlens/hooks/recorder.h"
#include "hooks/hook_tools.h"

namespace headlens {
namespace {

using testing::config_of;
using testing::difference;
using testing::kFamilies;
using testing::load_model;
using testing::message_of;
using testing::some_ids;

Tensor pass(TapPoint, Tensor value) {
  return value;
}

/// What a layer does at a site, without a model.
Tensor fire(Tap& tap, TapPoint point, const Tensor& value = at::ones({1, 2, 36})) {
  return LayerTap(&tap, point.layer)(point.site, value);
}

TEST(HookSetTest, WantsOnlyWhatIsHooked) {
  HookSet hooks(config_of("llama"));
  hooks.add("blocks.1.hook_resid_pre", pass);
  EXPECT_TRUE(hooks.wants({Site::ResidPre, 1}));
  EXPECT_FALSE(hooks.wants({Site::ResidPre, 0}));
  EXPECT_FALSE(hooks.wants({Site::ResidPost, 1}));
  EXPECT_FALSE(hooks.wants_map({Site::Pattern, 1}));
}

TEST(HookSetTest, HooksRunInTheOrderTheyWereAdded) {
  HookSet hooks(config_of("llama"));
  hooks.add("blocks.0.hook_resid_pre", [](TapPoint, const Tensor& x) { return x + 1; });
  hooks.add("blocks.*.hook_resid_pre", [](TapPoint, const Tensor& x) { return x * 10; });
  EXPECT_EQ(fire(hooks, {Site::ResidPre, 0})[0][0][0].item<double>(), 20);
  EXPECT_EQ(fire(hooks, {Site::ResidPre, 1})[0][0][0].item<double>(), 10);
}

TEST(HookSetTest, CountsPerHookAndSite) {
  HookSet hooks(config_of("llama"));
  const HookHandle one = hooks.add("blocks.0.hook_resid_pre", pass);
  const HookHandle all = hooks.add("blocks.*.hook_resid_pre", pass);
  fire(hooks, {Site::ResidPre, 0});
  fire(hooks, {Site::ResidPre, 0});
  fire(hooks, {Site::ResidPre, 2});
  EXPECT_EQ(hooks.fired(one), 2);
  EXPECT_EQ(hooks.fired(all), 3);
  EXPECT_EQ(hooks.fired(all, {Site::ResidPre, 2}), 1);
  EXPECT_EQ(hooks.fired(all, {Site::ResidPre, 1}), 0);
  EXPECT_EQ(message_of<HookError>([&] { hooks.check_all_fired(); }),
            "[hooks] hooks, expected each to fire, got no call of 'blocks.*.hook_resid_pre' at "
            "blocks.1.hook_resid_pre");
  fire(hooks, {Site::ResidPre, 1});
  hooks.check_all_fired();
  hooks.reset_counts();
  EXPECT_EQ(hooks.fired(one), 0);
}

TEST(HookSetTest, AScopeTakesItsOwnHooksWithIt) {
  HookSet hooks(config_of("llama"));
  hooks.add("blocks.0.hook_resid_pre", pass);
  {
    const auto outer = hooks.scope();
    hooks.add("blocks.1.hook_resid_pre", pass);
    {
      const auto inner = hooks.scope();
      hooks.add("blocks.2.hook_resid_pre", pass);
      hooks.add("blocks.2.hook_resid_post", pass);
      EXPECT_EQ(hooks.size(), 4u);
    }
    EXPECT_EQ(hooks.size(), 2u);
    hooks.add("blocks.2.hook_resid_mid", pass);  // belongs to `outer` again
    EXPECT_EQ(hooks.size(), 3u);
  }
  EXPECT_EQ(hooks.size(), 1u);
  EXPECT_TRUE(hooks.wants({Site::ResidPre, 0}));
  EXPECT_FALSE(hooks.wants({Site::ResidPre, 1}));
}

TEST(HookSetTest, ScopesMayEndOutOfOrder) {
  HookSet hooks(config_of("llama"));
  auto outer = hooks.scope();
  hooks.add("blocks.0.hook_resid_pre", pass);
  auto inner = hooks.scope();
  const HookHandle kept = hooks.add("blocks.1.hook_resid_pre", pass);
  outer.close();
  EXPECT_EQ(hooks.size(), 1u);
  EXPECT_EQ(hooks.fired(kept), 0);  // still there
  outer.close();                    // a second time does nothing
  inner.close();
  EXPECT_EQ(hooks.size(), 0u);
}

TEST(HookSetTest, AScopeMayMoveAndOutliveItsSet) {
  auto hooks = std::make_unique<HookSet>(config_of("llama"));
  auto first = hooks->scope();
  hooks->add("blocks.0.hook_resid_pre", pass);
  auto second = std::move(first);
  EXPECT_EQ(hooks->size(), 1u);
  hooks.reset();
  second.close();
}

TEST(HookSetTest, AScopeIsClosedByAnError) {
  HookSet hooks(config_of("llama"));
  const auto act = [&] {
    const auto scope = hooks.scope();
    hooks.add("blocks.0.hook_resid_pre", [](TapPoint, const Tensor& x) { return x[0]; });
    fire(hooks, {Site::ResidPre, 0});
  };
  EXPECT_EQ(message_of<ShapeError>(act),
            "[hooks] shape of 'blocks.0.hook_resid_pre' after its hook, expected [1, 2, 36], got "
            "[2, 36]");
  EXPECT_EQ(hooks.size(), 0u);
}

TEST(HookSetTest, AScopeChecksItsOwnHooks) {
  HookSet hooks(config_of("llama"));
  hooks.add("blocks.0.hook_resid_pre", pass);
  const auto scope = hooks.scope();
  hooks.add("blocks.1.hook_resid_pre", pass);
  fire(hooks, {Site::ResidPre, 1});
  scope.check_all_fired();
  EXPECT_THROW(hooks.check_all_fired(), HookError);
}

TEST(HookSetTest, RemovedHooksAreGone) {
  HookSet hooks(config_of("llama"));
  const HookHandle handle = hooks.add("blocks.0.hook_resid_pre", pass);
  hooks.remove(handle);
  EXPECT_FALSE(hooks.wants({Site::ResidPre, 0}));
  hooks.check_all_fired();
  EXPECT_EQ(message_of<HookError>([&] { hooks.remove(handle); }),
            "[hooks] handle, expected a hook of this set, got 0 (removed?)");
}

TEST(HookSetTest, AHookMayRemoveItself) {
  HookSet hooks(config_of("llama"));
  HookHandle self;
  self = hooks.add("blocks.0.hook_resid_pre", [&](TapPoint, Tensor x) {
    hooks.remove(self);
    return x;
  });
  fire(hooks, {Site::ResidPre, 0});
  EXPECT_EQ(hooks.size(), 0u);
}

TEST(HookSetTest, BadHooksAreErrors) {
  HookSet hooks(config_of("llama"));
  EXPECT_THROW(hooks.add("blocks.0.hook_nothing", pass), HookError);
  EXPECT_THROW(hooks.add("blocks.0.hook_resid_pre", TensorHook()), HookError);
  EXPECT_THROW(hooks.add(std::shared_ptr<Intervention>()), HookError);
  EXPECT_EQ(
      message_of<HookError>([&] { hooks.add_map("blocks.0.attn.hook_z", [](auto, auto&) {}); }),
      "[hooks] map hook on 'blocks.0.attn.hook_z', expected attn.hook_pattern or "
      "mixer.hook_map, got other sites only");
  EXPECT_EQ(hooks.size(), 0u);
}

TEST(HookSetTest, ReadOnlySitesCannotBeEdited) {
  const LanguageModel model = load_model("mamba");
  HookSet hooks(model.config());
  hooks.add("blocks.0.mixer.hook_state", [](TapPoint, const Tensor& x) { return x * 2; });
  EXPECT_THROW(model.forward(some_ids(1, 4), {.tap = &hooks}), HookError);
}

TEST(TapChainTest, TapsSeeWhatThoseBeforeThemReturned) {
  const ModelConfig config = config_of("llama");
  HookSet first(config), second(config);
  first.add("blocks.0.hook_resid_pre", [](TapPoint, const Tensor& x) { return x + 1; });
  second.add("blocks.0.hook_resid_pre", [](TapPoint, const Tensor& x) { return x * 10; });
  second.add("blocks.1.hook_resid_pre", [](TapPoint, const Tensor& x) { return x * 10; });
  TapChain chain({&first, nullptr, &second});
  EXPECT_EQ(fire(chain, {Site::ResidPre, 0})[0][0][0].item<double>(), 20);
  EXPECT_EQ(fire(chain, {Site::ResidPre, 1})[0][0][0].item<double>(), 10);
  EXPECT_FALSE(chain.wants({Site::ResidPre, 2}));
}

class HookSetFamilyTest : public ::testing::TestWithParam<std::string> {};

// Every site of every family, on a prefill and on the decoding steps after it.
TEST_P(HookSetFamilyTest, EverySiteFiresOnPrefillAndDecode) {
  const LanguageModel model = load_model(GetParam());
  HookSet hooks(model.config());
  int64_t map_calls = 0;
  hooks.add("*", pass);
  hooks.add_map("*", [&](TapPoint, HeadMap&) { ++map_calls; });
  ModelState state;
  model.forward(some_ids(2, 5), {.tap = &hooks, .state = &state});
  hooks.check_all_fired();
  const int64_t in_prefill = std::exchange(map_calls, 0);
  hooks.reset_counts();
  model.forward(some_ids(2, 1), {.tap = &hooks, .state = &state});
  hooks.check_all_fired();
  EXPECT_EQ(map_calls, in_prefill);
  EXPECT_GT(map_calls, 0);
}

TEST_P(HookSetFamilyTest, LookingChangesNothing) {
  const LanguageModel model = load_model(GetParam());
  HookSet hooks(model.config());
  hooks.add("*", pass);
  const Tensor ids = some_ids(2, 7);
  const Tensor before = model.forward(ids);
  EXPECT_TRUE(at::equal(model.forward(ids, {.tap = &hooks}), before));
}

TEST_P(HookSetFamilyTest, AForwardOfSomeLayersLeavesTheOthersUnfired) {
  const LanguageModel model = load_model(GetParam());
  HookSet hooks(model.config());
  hooks.add("blocks.*.hook_resid_post", pass);
  const Tensor resid = model.embed(some_ids(1, 3));
  model.run_layers(resid, 1, model.layer_count(), &hooks, nullptr, model.prompt_of(resid));
  EXPECT_EQ(message_of<HookError>([&] { hooks.check_all_fired(); }),
            "[hooks] hooks, expected each to fire, got no call of 'blocks.*.hook_resid_post' at "
            "blocks.0.hook_resid_post");
}

INSTANTIATE_TEST_SUITE_P(Families, HookSetFamilyTest, ::testing::ValuesIn(kFamilies),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace headlens
