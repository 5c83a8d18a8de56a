// headlens/tests: the operations of a decoding step on a GPU against the same in float64.
#include <gtest/gtest.h>

#include "headlens/core/device.h"
#include "headlens/core/error.h"
#include "headlens/kernels/decode.h"
#include "headlens/kernels/device_graph.h"
#include "kernels/decode_cases.h"
#include "kernels/decode_step_cases.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;
using testing::wide;

/// A dtype with the error that its rounding leaves: results, and what is rounded on the way (the
/// norm, the gate, turned keys), have half a unit in the last place each.
struct Precision {
  std::string name;
  at::ScalarType dtype;
  double tolerance;
};

class DecodeCuda : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(6);
  }
  at::ScalarType dtype() const { return GetParam().dtype; }
  Tensor there(const Tensor& x) const {
    return x.defined() ? x.to(at::kCUDA, x.is_floating_point() ? dtype() : x.scalar_type()) : x;
  }
  Tensor nothing(at::IntArrayRef shape, at::ScalarType type) const {
    return at::full(shape, NAN, at::TensorOptions(at::kCUDA).dtype(type));
  }
};

INSTANTIATE_TEST_SUITE_P(Types, DecodeCuda,
                         ::testing::Values(Precision{"float64", at::kDouble, 1e-12},
                                           Precision{"float32", at::kFloat, 2e-5},
                                           Precision{"float16", at::kHalf, 4e-3},
                                           Precision{"bfloat16", at::kBFloat16, 3e-2}),
                         [](const auto& row) { return row.param.name; });

// One row, several, and more than the tensor cores take in a pass; widths below, at and past the
// pieces that are read at once, and one (of 33 elements) that only LibTorch takes.
TEST_P(DecodeCuda, Linear) {
  for (const testing::LinearCase& c : testing::kLinearCases) {
    for (const int64_t in : {8, 33, 264, 4096}) {
      for (const int64_t batch : {1, 3, 8, 13}) {
        const DecodeLinear linear = testing::converted(
            testing::make_linear(c, in), [this](const Tensor& x) { return there(x); });
        const Tensor x = there(random_tensor({batch, in}));
        const Tensor residual =
            c.residual ? there(random_tensor({batch, linear.width()})) : Tensor();
        const Tensor y = nothing({batch, linear.width()}, dtype());
        decode_linear(x, linear, residual, y);
        const Tensor expected =
            testing::plain_linear(wide(x), testing::converted(linear, wide), wide(residual));
        EXPECT_LT(error_of(y, expected), GetParam().tolerance)
            << c.name << " in " << in << " batch " << batch;
        if (!c.residual) continue;
        decode_linear(x, linear, residual, residual);  // in place
        EXPECT_TRUE(at::equal(residual, y));
      }
    }
  }
}

TEST_P(DecodeCuda, AttentionAndItsRows) {
  for (const testing::StepCase& c : testing::kStepCases) {
    for (const int64_t batch : {1, 3}) {
      testing::StepInputs in =
          testing::make_step(c, batch).to([this](const Tensor& x) { return there(x); });
      const testing::PlainStep plain = testing::plain_step(in.to(wide));
      in.cache.position = there(in.cache.position), in.rule.first = there(in.rule.first);
      const auto table = dtype() == at::kDouble ? at::kDouble : at::kFloat;
      if (in.turn.cos.defined()) {
        in.turn.cos = in.turn.cos.to(at::kCUDA, table),
        in.turn.sin = in.turn.sin.to(at::kCUDA, table);
      }
      DecodeScratch scratch;
      scratch.q_turned = nothing(in.q.sizes(), dtype());
      scratch.log_mass = nothing({batch, c.heads}, table);
      const std::string where = c.name + " batch " + std::to_string(batch);
      for (int time = 0; time < 2; ++time) {  // the scratch is left as it was found
        const Tensor z = decode_attention(in.q, in.k, in.v, in.cache, in.rule, in.turn, scratch);
        EXPECT_LT(error_of(z, plain.z), GetParam().tolerance) << where;
      }
      EXPECT_LT(error_of(in.cache.k.select(1, c.position), plain.k), GetParam().tolerance) << where;
      EXPECT_TRUE(at::equal(in.cache.v.select(1, c.position), in.v)) << where;
      // Scores of rounded keys: a few units of them, times a few.
      EXPECT_LT(error_of(scratch.log_mass, plain.log_mass), 4 * GetParam().tolerance) << where;
      const Tensor heads = there(at::tensor({c.heads - 1, int64_t{0}}, at::kLong));
      const Tensor rows = nothing({batch, 2, c.room}, table);
      decode_rows(scratch.q_turned, in.cache, in.rule, scratch.log_mass, heads, rows);
      EXPECT_LT(error_of(rows, plain.pattern.index_select(1, heads.cpu())),
                2 * GetParam().tolerance)
          << where;
      EXPECT_LT(error_of(rows.sum(-1), at::ones({batch, 2})), 1e-4) << where;
    }
  }
}

TEST_P(DecodeCuda, PickAndEmbed) {
  for (const auto& [batch, vocab] : {std::pair<int64_t, int64_t>{1, 128256}, {3, 77}, {8, 5000}}) {
    Tensor logits = there(random_tensor({batch, vocab}));
    logits.select(1, -1).copy_(logits.amax(-1));  // a tie, of which the first counts
    const Tensor ids = there(at::zeros({batch}, at::kLong));
    const Tensor chosen = there(at::full({batch, 9}, -1, at::kLong));
    const Tensor position = there(at::full({1}, 4, at::kLong));
    const Tensor ticket = there(at::zeros({1}, at::kInt));
    for (int64_t step = 0; step < 2; ++step) decode_pick(logits, ids, chosen, position, ticket);
    const Tensor expected = logits.eq(logits.amax(-1, true)).to(at::kInt).argmax(-1);
    EXPECT_TRUE(at::equal(ids, expected)) << vocab;
    EXPECT_TRUE(at::equal(chosen.select(1, 5), expected));
    EXPECT_TRUE(at::equal(chosen.select(1, 6), expected));
    EXPECT_EQ(chosen.eq(-1).sum().item<int64_t>(), 7 * batch);
    EXPECT_EQ(position.item<int64_t>(), 6);

    const Tensor table = there(random_tensor({vocab, 72})), out = nothing({batch, 72}, dtype());
    decode_embed(table, ids, 2.5, out);
    EXPECT_TRUE(at::equal(out, table.index_select(0, ids) * 2.5));
  }
}

TEST(DeviceGraphCuda, ReplaysWithWhatIsThere) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  const Tensor x = at::ones({3}, at::TensorOptions(at::kCUDA)), y = at::zeros_like(x);
  const auto work = [&] { y.copy_((x * 2).add(1)); };
  work();
  const auto graph = DeviceGraph::record(at::Device(at::kCUDA, 0), work);
  x.fill_(5);
  EXPECT_EQ(y.sum().item<float>(), 9);
  graph->replay();
  EXPECT_EQ(y.sum().item<float>(), 33);
}

TEST(DeviceGraphCuda, WorkThatWaitsIsAnError) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  const Tensor x = at::ones({3}, at::TensorOptions(at::kCUDA));
  const at::Device device(at::kCUDA, 0);
  EXPECT_THROW(DeviceGraph::record(device, [&] { (void)x.sum().item<float>(); }), DeviceError);
  // The device is usable again, its random numbers and further recordings too.
  EXPECT_EQ((x + 1).sum().item<float>(), 6);
  EXPECT_TRUE(at::rand({8}, x.options()).lt(1).all().item<bool>());
  Tensor y;
  const auto graph = DeviceGraph::record(device, [&] { y = x * 2; });
  graph->replay();
  EXPECT_EQ(y.sum().item<float>(), 6);
}

}  // namespace
}  // namespace headlens
