// headlens/tests: figures of attention rows against a softmax written out.
#include "headlens/kernels/attention_stats.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;

constexpr double kScale = 0.37;

class AttentionStats : public ::testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(7);
    q_ = random_tensor({2, 9, 4, 8});
    k_ = random_tensor({2, 13, 2, 8});
  }
  /// P [batch, head, query, key] with the last `window` keys seen, from `first` on.
  Tensor plain(int64_t window, const Tensor& first) const {
    const Tensor at = at::arange(9, at::kLong).unsqueeze(-1) + 4, key = at::arange(13, at::kLong);
    Tensor sees = (key <= at) & (key > at - window);
    sees = sees & (key >= first.view({2, 1, 1, 1}));
    const Tensor scores = at::einsum("bqhd,bkhd->bhqk", {q_, k_.repeat_interleave(2, 2)}) * kScale;
    const Tensor size = scores.exp() * sees;
    return size / size.sum(-1, true).clamp_min(1e-300);
  }
  Tensor q_, k_;
};

TEST_F(AttentionStats, EqualPlainSoftmax) {
  const Tensor first = at::tensor({0, 6}, at::kLong);
  const Tensor p = plain(5, first);
  MapStatsRequest request;
  request.segments = at::tensor({0, 0, 0, 1, 1, -1, -1, 2, 2, 2, 2, 0, 1}, at::kLong).unsqueeze(0);
  request.num_segments = 3;
  request.offsets = {0, 2, 11};
  request.key_sets = at::randint(-1, 13, {2, 9, 2, 3}, at::kLong);
  request.top_k = 3;
  const MapStats got =
      attention_stats(q_, k_, {kScale, /*window=*/5, /*softcap=*/0, first}, request);
  EXPECT_LT(error_of(got.entropy, -(p * p.clamp_min(1e-300).log()).sum(-1)), 1e-12);
  EXPECT_LT(error_of(got.max, p.amax(-1)), 1e-12);
  EXPECT_TRUE(at::equal(got.argmax, p.argmax(-1)));
  EXPECT_LT(error_of(got.row_mass, p.sum(-1)), 1e-12);
  for (int64_t s = 0; s < 3; ++s) {
    EXPECT_LT(error_of(got.segment_mass.select(-1, s), (p * (request.segments[0] == s)).sum(-1)),
              1e-12);
  }
  const auto at_keys = [&](const Tensor& keys) {  // [batch, row]
    const Tensor index = keys.clamp_min(0).unsqueeze(1).unsqueeze(-1).expand({2, 4, 9, 1});
    return p.gather(-1, index).squeeze(-1) * (keys >= 0).unsqueeze(1);
  };
  for (size_t i = 0; i < request.offsets.size(); ++i) {
    const Tensor keys = (at::arange(9, at::kLong) + 4 - request.offsets[i]).expand({2, 9});
    EXPECT_LT(error_of(got.offset_mass.select(-1, static_cast<int64_t>(i)), at_keys(keys)), 1e-12);
  }
  for (int64_t set = 0; set < 2; ++set) {
    Tensor sum = at::zeros({2, 4, 9}, at::kDouble);
    for (int64_t i = 0; i < 3; ++i) sum += at_keys(request.key_sets.select(2, set).select(-1, i));
    EXPECT_LT(error_of(got.set_mass.select(-1, set), sum), 1e-12);
  }
  EXPECT_LT(error_of(got.top_values.select(-1, 0), p.amax(-1)), 1e-12);
}

// Batch row 1's keys begin at 11: its first six rows (at keys 4 to 9 and 10) see nothing.
TEST_F(AttentionStats, RowWithoutKeysIsZero) {
  const MapStats got =
      attention_stats(q_, k_, {kScale, 0, 0, at::tensor({0, 11}, at::kLong)}, {.top_k = 2});
  const auto blind = [](const Tensor& x) { return x.select(0, 1).slice(1, 0, 7); };
  for (const Tensor& x : {got.entropy, got.max, got.row_mass, got.top_values}) {
    EXPECT_EQ(blind(x).abs().max().item<double>(), 0);
  }
  EXPECT_EQ(blind(got.argmax).abs().max().item<int64_t>(), 0);
  EXPECT_TRUE(blind(got.top_keys).eq(-1).all().item<bool>());
  EXPECT_TRUE(blind(got.log_mass).isneginf().all().item<bool>());
}

TEST_F(AttentionStats, ChosenRowsAndHeads) {
  const MapStats all = attention_stats(q_, k_, {kScale}, {});
  MapStatsRequest request;
  request.rows = at::tensor({8, 0, 3, 3, 1, 7}, at::kLong).view({2, 3});
  request.heads = at::tensor({3, 1}, at::kLong);
  const MapStats some = attention_stats(q_, k_, {kScale}, request);
  for (int64_t batch = 0; batch < 2; ++batch) {
    const auto chosen = [&](const Tensor& x) {
      return x[batch].index_select(0, request.heads).index_select(1, request.rows[batch]);
    };
    EXPECT_LT(error_of(some.entropy[batch], chosen(all.entropy)), 1e-12);
    EXPECT_LT(error_of(some.log_mass[batch], chosen(all.log_mass)), 1e-12);
    EXPECT_TRUE(at::equal(some.argmax[batch], chosen(all.argmax)));
  }
}

TEST_F(AttentionStats, GradientsOfSums) {
  testing::expect_same_gradients(
      [](const testing::Tensors& in) -> testing::Tensors {
        const MapStats stats = attention_stats(in[0], in[1], {kScale}, {});
        return {stats.entropy, stats.log_mass};
      },
      [](const testing::Tensors& in) -> testing::Tensors {
        const Tensor scores =
            at::einsum("bqhd,bkhd->bhqk", {in[0], in[1].repeat_interleave(2, 2)}) * kScale;
        const Tensor hidden = at::ones({9, 13}, at::kBool).tril(4).logical_not();
        const Tensor masked = scores.masked_fill(hidden, -1e30), p = masked.softmax(-1);
        return {-(p * p.clamp_min(1e-300).log()).sum(-1), masked.logsumexp(-1)};
      },
      {q_, k_}, 1e-10);
}

TEST_F(AttentionStats, ErrorsNameWhatDoesNotFit) {
  const auto message = [&](const MapStatsRequest& request) {
    return testing::error_message<ShapeError>([&] { attention_stats(q_, k_, {kScale}, request); });
  };
  EXPECT_NE(message({.top_k = 17}).find("top_k, expected 0 to 16, got 17"), std::string::npos);
  EXPECT_NE(message({.segments = at::zeros({3, 13}, at::kLong), .num_segments = 1})
                .find("lists of segments, expected 1 or 2, got 3"),
            std::string::npos);
  EXPECT_NE(message({.num_segments = 257}).find("num_segments"), std::string::npos);
  EXPECT_NE(message({.key_sets = at::zeros({2, 8, 1, 1}, at::kLong)}).find("key_sets"),
            std::string::npos);
}

}  // namespace
}  // namespace headlens
