// headlens/tests: recorded tensors by name.
#include "headlens/hooks/activation_cache.h"

#include <gtest/gtest.h>

#include "headlens/core/safetensors.h"
#include "hooks/hook_tools.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::message_of;

TEST(ActivationCacheTest, NamesKeepTheirOrder) {
  ActivationCache cache;
  cache.set("z", at::zeros({2}));
  cache.set("a", at::ones({3}));
  cache.set("z", at::full({4}, 2.0));
  EXPECT_EQ(cache.names(), (std::vector<std::string>{"z", "a"}));
  EXPECT_EQ(cache["z"].numel(), 4);
  EXPECT_EQ(cache.bytes(), (4 + 3) * 4);
  cache.clear();
  EXPECT_TRUE(cache.empty());
  EXPECT_FALSE(cache.has("z"));
}

TEST(ActivationCacheTest, UnknownNamesListTheKnownOnes) {
  ActivationCache cache;
  EXPECT_EQ(message_of<HookError>([&] { cache["q"]; }),
            "[cache] name, expected one of nothing, got 'q'");
  cache.set("a", at::ones({1}));
  cache.set("b", at::ones({1}));
  EXPECT_EQ(message_of<HookError>([&] { cache["q"]; }),
            "[cache] name, expected one of a, b, got 'q'");
  for (int i = 0; i < 12; ++i) cache.set(std::to_string(i), at::ones({1}));
  EXPECT_EQ(message_of<HookError>([&] { cache["q"]; }),
            "[cache] name, expected one of a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more, got 'q'");
}

TEST(ActivationCacheTest, SavesWhatItHolds) {
  const testing::TempDir dir;
  ActivationCache cache;
  const Tensor strided = at::arange(6, at::kDouble).view({2, 3}).t();
  cache.set("logits", strided.clone().requires_grad_(true));
  cache.set("blocks.0.attn.hook_z", strided);
  cache.save(dir.path() / "out.safetensors", {{"made_by", "a test"}});
  const SafetensorsFile file = SafetensorsFile::open(dir.path() / "out.safetensors");
  EXPECT_EQ(file.names(), (std::vector<std::string>{"blocks.0.attn.hook_z", "logits"}));
  EXPECT_TRUE(at::equal(file.tensor("logits"), strided));
  EXPECT_EQ(file.metadata().at("made_by"), "a test");
}

}  // namespace
}  // namespace headlens
