// headlens/tests: layers over several devices, by their bytes and in their order.
#include "headlens/model/layer_spread.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "headlens/core/error.h"

namespace headlens {
namespace {

std::vector<at::Device> devices(int count) {
  std::vector<at::Device> out;
  for (int i = 0; i < count; ++i) out.emplace_back(at::kCUDA, static_cast<at::DeviceIndex>(i));
  return out;
}

/// The index of each layer's device.
std::vector<int> plan(int count, const std::vector<int64_t>& layers, int64_t embed = 0,
                      int64_t head = 0) {
  const LayerSpread spread = spread_layers(devices(count), layers, embed, head);
  EXPECT_EQ(spread.embed.index(), 0);
  EXPECT_EQ(spread.head.index(), count - 1);
  std::vector<int> out;
  for (const at::Device& device : spread.layers) out.push_back(device.index());
  return out;
}

using Plan = std::vector<int>;

TEST(LayerSpread, SharesEqualLayersEqually) {
  EXPECT_EQ(plan(1, {5, 5, 5}, 9, 9), (Plan{0, 0, 0}));
  EXPECT_EQ(plan(2, {5, 5, 5, 5}), (Plan{0, 0, 1, 1}));
  EXPECT_EQ(plan(3, {5, 5, 5, 5, 5, 5}), (Plan{0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(plan(2, {}), Plan{});
}

TEST(LayerSpread, CountsTheEmbeddingAndTheHead) {
  EXPECT_EQ(plan(2, {5, 5, 5, 5}, 10, 0), (Plan{0, 1, 1, 1}));
  EXPECT_EQ(plan(2, {5, 5, 5, 5}, 0, 10), (Plan{0, 0, 0, 1}));
  EXPECT_EQ(plan(2, {5, 5, 5, 5}, 10, 10), (Plan{0, 0, 1, 1}));
  EXPECT_EQ(plan(2, {5, 5}, 100, 0), (Plan{1, 1}));
}

TEST(LayerSpread, CountsBytesNotLayers) {
  EXPECT_EQ(plan(2, {30, 10, 10, 10}), (Plan{0, 1, 1, 1}));
  EXPECT_EQ(plan(2, {10, 10, 10, 30}), (Plan{0, 0, 0, 1}));
  EXPECT_EQ(plan(2, {0, 0, 0}).size(), 3u);
}

TEST(LayerSpread, LeavesDevicesEmptyWhereLayersAreFew) {
  EXPECT_EQ(plan(4, {5}).size(), 1u);
  EXPECT_EQ(plan(4, {5, 5}, 5, 5), (Plan{1, 2}));
}

/// The fullest device's bytes.
int64_t fullest(const Plan& plan, int count, const std::vector<int64_t>& layers, int64_t embed,
                int64_t head) {
  std::vector<int64_t> held(static_cast<size_t>(count));
  held.front() += embed;
  held.back() += head;
  for (size_t i = 0; i < plan.size(); ++i) held[static_cast<size_t>(plan[i])] += layers[i];
  return *std::max_element(held.begin(), held.end());
}

TEST(LayerSpread, NoOtherCutIsBetter) {
  const std::vector<int64_t> layers = {3, 9, 1, 7, 7, 2, 8};
  for (const int64_t embed : {0, 4, 30}) {
    for (const int64_t head : {0, 11}) {
      int64_t best = INT64_MAX;
      for (size_t cut = 0; cut <= layers.size(); ++cut) {
        for (size_t next = cut; next <= layers.size(); ++next) {
          Plan other(layers.size(), 1);
          std::fill(other.begin(), other.begin() + static_cast<std::ptrdiff_t>(cut), 0);
          std::fill(other.begin() + static_cast<std::ptrdiff_t>(next), other.end(), 2);
          best = std::min(best, fullest(other, 3, layers, embed, head));
        }
      }
      const Plan ours = plan(3, layers, embed, head);
      EXPECT_TRUE(std::is_sorted(ours.begin(), ours.end()));
      EXPECT_EQ(fullest(ours, 3, layers, embed, head), best) << embed << " " << head;
    }
  }
}

TEST(LayerSpread, NeedsADevice) {
  EXPECT_THROW(spread_layers({}, {1}, 1, 1), UsageError);
}

}  // namespace
}  // namespace headlens
