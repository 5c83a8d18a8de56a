// headlens/tests: edited maps by the fused way against the same edits of the dense map.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "headlens/core/device.h"
#include "kernels/autograd_tools.h"
#include "model/head_map_cases.h"

namespace headlens {
namespace {

using testing::any_map_name;
using testing::AnyMap;
using testing::error_of;
using testing::kAnyMaps;
using testing::make_map;

Tensor mask_of(int64_t size, const std::vector<int64_t>& chosen) {
  Tensor mask = at::zeros({size}, at::kBool);
  for (const int64_t i : chosen) mask[i] = true;
  return mask;
}

/// A list of edits that fused kernels take, by name.
struct EditCase {
  std::string name;
  std::function<std::vector<MapEdit>(const HeadMap&)> edits;
};

const EditCase kScalings[] = {
    {"keys",
     [](const HeadMap& m) -> std::vector<MapEdit> {
       return {{.keys = mask_of(m.keys(), {0, 3})}};
     }},
    {"heads_rows_keys",
     [](const HeadMap& m) -> std::vector<MapEdit> {
       return {{.heads = {1},
                .rows = mask_of(m.queries(), {2, 4}),
                .keys = mask_of(m.keys(), {1}),
                .factor = -2.3}};
     }},
    {"overlapping",
     [](const HeadMap& m) -> std::vector<MapEdit> {
       return {{.rows = mask_of(m.queries(), {1, 2, 4}),
                .keys = mask_of(m.keys(), {0, 1}),
                .factor = 3},
               {.heads = {0}, .keys = mask_of(m.keys(), {1, 2}), .factor = 0.5},
               {.heads = {0, 1}, .rows = mask_of(m.queries(), {4})}};
     }},
    {"each_row_of_the_batch",
     [](const HeadMap& m) -> std::vector<MapEdit> {
       const Tensor keys = at::stack({mask_of(m.keys(), {0}), mask_of(m.keys(), {1, 2})});
       const Tensor rows = at::stack({mask_of(m.queries(), {3}), mask_of(m.queries(), {2, 4})});
       return {{.rows = rows, .keys = keys}};
     }},
};

const EditCase kHides[] = {
    {"hidden_keys",
     [](const HeadMap& m) -> std::vector<MapEdit> {
       return {{.keys = mask_of(m.keys(), {0, 3}), .renormalize = true}};
     }},
    {"hidden_in_rows_of_heads",
     [](const HeadMap& m) -> std::vector<MapEdit> {
       return {{.heads = {1},
                .rows = mask_of(m.queries(), {2, 4}),
                .keys = mask_of(m.keys(), {1}),
                .renormalize = true}};
     }},
    {"nothing_left",
     [](const HeadMap& m) -> std::vector<MapEdit> {
       std::vector<int64_t> even, odd;
       for (int64_t j = 0; j < m.keys(); ++j) (j % 2 == 0 ? even : odd).push_back(j);
       return {{.heads = {0},
                .rows = mask_of(m.queries(), {4}),
                .keys = mask_of(m.keys(), even),
                .renormalize = true},
               {.rows = mask_of(m.queries(), {2, 4}),
                .keys = mask_of(m.keys(), odd),
                .renormalize = true}};
     }},
    {"hidden_and_scaled",
     [](const HeadMap& m) -> std::vector<MapEdit> {
       return {{.keys = mask_of(m.keys(), {0}), .renormalize = true},
               {.heads = {1},
                .rows = mask_of(m.queries(), {3, 4}),
                .keys = mask_of(m.keys(), {1, 2}),
                .factor = 0.3}};
     }},
};

class FusedEdits : public ::testing::TestWithParam<AnyMap> {
 protected:
  /// apply() against the dense map with the same edits, on a device.
  void compare(const EditCase& edits, at::ScalarType dtype, at::Device device, double tolerance) {
    SCOPED_TRACE(edits.name);
    const auto plain = make_map(GetParam(), at::kDouble);
    for (const MapEdit& edit : edits.edits(*plain.map)) plain.map->edit(edit);
    const Tensor expected = plain.map->apply_dense(plain.map->dense());
    const int64_t entries = plain.map->entries_edited();
    auto inputs = testing::map_inputs(GetParam(), at::kDouble);
    for (Tensor& input : inputs) {
      if (input.defined() && input.is_floating_point()) input = input.to(device, dtype);
    }
    const auto map = testing::map_from(GetParam(), inputs);
    for (const MapEdit& edit : edits.edits(*map)) map->edit(edit);
    EXPECT_LT(error_of(map->apply().to(at::kCPU, at::kDouble), expected), tolerance);
    EXPECT_EQ(map->entries_edited(), entries);
    EXPECT_LT(error_of(map->apply_rows(4).to(at::kCPU, at::kDouble), expected), tolerance);
  }
  bool takes_hides() const { return make_map(GetParam(), at::kDouble).map->is_softmax(); }
};
INSTANTIATE_TEST_SUITE_P(Kinds, FusedEdits, ::testing::ValuesIn(kAnyMaps), any_map_name);

TEST_P(FusedEdits, EqualEditsOfTheDenseMap) {
  for (const EditCase& edits : kScalings) compare(edits, at::kDouble, at::kCPU, 1e-12);
  if (!takes_hides()) return;
  for (const EditCase& edits : kHides) compare(edits, at::kDouble, at::kCPU, 1e-12);
}

// Half precision rounds what the map reads and its product: a few units of 2^-9.
TEST_P(FusedEdits, CudaEqualsFloat64) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  for (const auto& [dtype, tolerance] : {std::pair{at::kFloat, 1e-5}, {at::kBFloat16, 2e-2}}) {
    for (const EditCase& edits : kScalings) compare(edits, dtype, at::kCUDA, tolerance);
    if (!takes_hides()) continue;
    for (const EditCase& edits : kHides) compare(edits, dtype, at::kCUDA, tolerance);
  }
}

// Rows that no edit names are those of the fused kernel, bit for bit.
TEST_P(FusedEdits, OtherRowsAreAsTheyWere) {
  const auto made = make_map(GetParam(), at::kFloat);
  const Tensor before = made.map->apply();
  made.map->edit({.rows = mask_of(made.map->queries(), {4}), .factor = 0.5});
  const Tensor after = made.map->apply();
  EXPECT_TRUE(at::equal(after.narrow(1, 0, 4), before.narrow(1, 0, 4)));
  EXPECT_FALSE(at::equal(after.select(1, 4), before.select(1, 4)));
}

}  // namespace
}  // namespace headlens
