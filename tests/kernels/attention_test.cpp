// headlens/tests: causal attention and its score rows against plain softmax.
#include "headlens/kernels/attention.h"

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

// Scores written out: [batch, head, query, key], -inf in the future.
Tensor plain_scores(const Tensor& q, const Tensor& k) {
  const int64_t queries = q.size(1), keys = k.size(1);
  const Tensor wide = k.repeat_interleave(q.size(2) / k.size(2), 2);
  const Tensor scores = at::einsum("bqhd,bkhd->bhqk", {q, wide}) * kScale;
  const Tensor causal = at::ones({queries, keys}, at::kBool).tril(keys - queries);
  return scores.masked_fill(causal.logical_not(), -INFINITY);
}

Tensor plain_attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  const Tensor wide = v.repeat_interleave(q.size(2) / v.size(2), 2);
  return at::einsum("bhqk,bkhd->bqhd", {plain_scores(q, k).softmax(-1), wide});
}

struct Sizes {
  std::string name;
  int64_t queries = 31, keys = 31, heads = 4, kv_heads = 2;
};

class Attention : public ::testing::TestWithParam<Sizes> {
 protected:
  void SetUp() override {
    at::manual_seed(3);
    const Sizes& s = GetParam();
    q_ = random_tensor({2, s.queries, s.heads, 8});
    k_ = random_tensor({2, s.keys, s.kv_heads, 8});
    v_ = random_tensor({2, s.keys, s.kv_heads, 8});
  }
  Tensor q_, k_, v_;
};

const Sizes kSizes[] = {
    {.name = "base"},
    {.name = "one_position", .queries = 1, .keys = 1},
    {.name = "decode", .queries = 1},
    {.name = "continued", .queries = 5},
    {.name = "ungrouped", .kv_heads = 4},
    {.name = "continued_ungrouped", .queries = 5, .kv_heads = 4},
    {.name = "decode_ungrouped", .queries = 1, .kv_heads = 4},
    {.name = "one_kv_head", .kv_heads = 1},
    {.name = "positions_129", .queries = 129, .keys = 129},
};

INSTANTIATE_TEST_SUITE_P(Sizes, Attention, ::testing::ValuesIn(kSizes),
                         [](const auto& row) { return row.param.name; });

TEST_P(Attention, EqualsPlainSoftmax) {
  const Tensor expected = plain_attention(q_, k_, v_);
  EXPECT_LT(error_of(attention(q_, k_, v_, {kScale}), expected), 1e-12);
  const Tensor single =
      attention(q_.to(at::kFloat), k_.to(at::kFloat), v_.to(at::kFloat), {kScale});
  EXPECT_EQ(single.scalar_type(), at::kFloat);
  EXPECT_LT(error_of(single, expected), 2e-6);  // convex combinations: a few float32 roundings
}

TEST_P(Attention, GradientsEqualPlainSoftmax) {
  testing::expect_same_gradients(
      [](const testing::Tensors& in) -> testing::Tensors {
        return {attention(in[0], in[1], in[2], {kScale})};
      },
      [](const testing::Tensors& in) -> testing::Tensors {
        return {plain_attention(in[0], in[1], in[2])};
      },
      {q_, k_, v_}, 1e-12);
}

TEST_P(Attention, ScoreRowsEqualPlainScores) {
  const int64_t queries = q_.size(1);
  const Tensor scores = plain_scores(q_, k_).exp();  // -inf -> 0, so that they compare
  const Tensor all = at::arange(queries, at::kLong).expand({2, -1});
  EXPECT_LT(error_of(attention_score_rows(q_, k_, {kScale}, all, {}).exp(), scores), 1e-12);
  const Tensor rows = at::stack({at::tensor({queries - 1, int64_t{0}}, at::kLong),
                                 at::tensor({queries / 2, queries - 1}, at::kLong)});
  const Tensor heads = at::tensor({3, 0, 1}, at::kLong);
  const Tensor got = attention_score_rows(q_, k_, {kScale}, rows, heads).exp();
  for (int64_t b = 0; b < 2; ++b) {
    EXPECT_LT(error_of(got[b], scores[b].index_select(0, heads).index_select(1, rows[b])), 1e-12);
  }
}

/// A rule of all its parts, or of some.
struct RuleCase {
  std::string name;
  int64_t window = 0;
  double softcap = 0;
  bool padded = false;
  int64_t queries = 300;
};

class AttentionRules : public ::testing::TestWithParam<RuleCase> {
 protected:
  static constexpr int64_t kKeys = 300;  // more than a block of queries
  void SetUp() override {
    at::manual_seed(5);
    const RuleCase& c = GetParam();
    q_ = random_tensor({2, c.queries, 4, 8});
    k_ = random_tensor({2, kKeys, 2, 8});
    v_ = random_tensor({2, kKeys, 2, 8});
    rule_ = {kScale, c.window, c.softcap, c.padded ? at::tensor({0, 280}, at::kLong) : Tensor()};
  }

  /// The definition, entry by entry: which keys, which scores, which softmax.
  Tensor plain() const {
    const Tensor wide = k_.repeat_interleave(2, 2), values = v_.repeat_interleave(2, 2);
    Tensor scores = at::einsum("bqhd,bkhd->bhqk", {q_, wide}) * kScale;
    if (rule_.softcap > 0) scores = rule_.softcap * at::tanh(scores / rule_.softcap);
    Tensor hidden = at::zeros(scores.sizes(), at::kBool);
    const int64_t queries = q_.size(1), offset = kKeys - queries;
    for (int64_t b = 0; b < 2; ++b) {
      const int64_t first = rule_.first.defined() ? rule_.first[b].item<int64_t>() : 0;
      for (int64_t i = 0; i < queries; ++i) {
        const int64_t own = offset + i;
        const int64_t low = rule_.window > 0 ? own - rule_.window + 1 : 0;
        Tensor row = hidden[b].select(1, i);  // [head, key]
        row.slice(1, own + 1).fill_(true);
        row.slice(1, 0, std::max({low, first, int64_t{0}})).fill_(true);
      }
    }
    const Tensor pattern =
        scores.masked_fill(hidden, -INFINITY).softmax(-1).nan_to_num(0);  // no key at all: 0
    return at::einsum("bhqk,bkhd->bqhd", {pattern, values});
  }

  Tensor q_, k_, v_;
  AttentionRule rule_;
};

TEST_P(AttentionRules, EqualTheDefinition) {
  EXPECT_LT(error_of(attention(q_, k_, v_, rule_), plain()), 1e-12);
  const auto single = [](const Tensor& x) { return x.to(at::kFloat); };
  EXPECT_LT(error_of(attention(single(q_), single(k_), single(v_), rule_), plain()), 2e-6);
}

TEST_P(AttentionRules, ScoreRowsHideWhatIsNotSeen) {
  const Tensor rows = at::tensor({GetParam().queries - 1}, at::kLong).expand({2, 1});
  const Tensor scores = attention_score_rows(q_, k_, rule_, rows, {});
  const Tensor sees = attention_sees(rule_, rows, kKeys, kKeys - GetParam().queries);
  EXPECT_TRUE(at::equal(scores.isneginf(), sees.logical_not().expand_as(scores)));
  const Tensor values = v_.repeat_interleave(2, 2);
  const Tensor last = at::einsum("bhqk,bkhd->bqhd", {scores.softmax(-1), values});
  EXPECT_LT(error_of(last, plain().slice(1, -1)), 1e-12);
}

const RuleCase kRules[] = {
    {.name = "window", .window = 7},
    {.name = "window_of_one", .window = 1},
    {.name = "wide_window", .window = 299},
    {.name = "softcap", .softcap = 0.9},
    {.name = "padded", .padded = true},
    {.name = "all", .window = 40, .softcap = 0.9, .padded = true},
    {.name = "all_continued", .window = 40, .softcap = 0.9, .padded = true, .queries = 5},
    {.name = "window_decode", .window = 7, .queries = 1},
};

INSTANTIATE_TEST_SUITE_P(Rules, AttentionRules, ::testing::ValuesIn(kRules),
                         [](const auto& row) { return row.param.name; });

TEST(AttentionTypes, ScoresAreAtLeastFloat) {
  at::manual_seed(4);
  const Tensor q = random_tensor({1, 6, 2, 8}, at::kBFloat16),
               k = random_tensor({1, 6, 2, 8}, at::kBFloat16);
  const Tensor rows = at::arange(6, at::kLong).unsqueeze(0);
  const Tensor got = attention_score_rows(q, k, {kScale}, rows, {});
  EXPECT_EQ(got.scalar_type(), at::kFloat);
  const Tensor expected = plain_scores(q.to(at::kDouble), k.to(at::kDouble));
  EXPECT_LT(error_of(got.exp(), expected.exp()), 1e-6);
}

TEST(AttentionErrors, NameTheTensor) {
  const Tensor q = at::zeros({1, 4, 3, 8}), k = at::zeros({1, 4, 2, 8});
  EXPECT_EQ(testing::error_message<ShapeError>([&] { attention(q, k, k, {1}); }),
            "[attention] heads, expected a multiple of 2 key/value heads, got 3");
  EXPECT_EQ(testing::error_message<ShapeError>([&] {
              attention(at::zeros({1, 5, 2, 8}), k, k, {1});
            }),
            "[attention] queries, expected at most the 4 keys, got 5");
}

}  // namespace
}  // namespace headlens
