// headlens/tests: steps of a command come back from a pool, and from a journal, bit by bit.
#include "cli/pool_steps.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "support/temp_dir.h"

namespace headlens::cli {
namespace {

using testing::TempDir;

std::unique_ptr<WorkPool> journalled(const TempDir& dir) {
  auto pool = make_local_pool();
  const RunIdentity identity = {{"run", "this"}};
  pool->start(identity,
              Journal::open(dir.path() / "journal", identity, {}, Journal::Existing::Resume));
  return pool;
}

void expect_same_bits(const HeadValues& a, const HeadValues& b) {
  EXPECT_EQ(a.head, b.head);
  EXPECT_EQ(a.kind, b.kind);
  ASSERT_EQ(a.values.rows(), b.values.rows());
  ASSERT_EQ(a.values.cols(), b.values.cols());
  const auto bytes = static_cast<size_t>(a.values.size()) * sizeof(double);
  EXPECT_EQ(std::memcmp(a.values.data(), b.values.data(), bytes), 0);  // NaN is not equal to itself
}

TEST(PoolSteps, OutcomesAreMadeOnce) {
  const std::vector<SweepOutcome> made = {
      {{{.correct = true, .logprob = -0.1, .margin = 1e-300}, {.logprob = -1.0 / 3}}}, {}};
  const TempDir dir;
  for (const int calls : {1, 0}) {  // the second time they are read
    int called = 0;
    const auto pool = journalled(dir);
    const auto got = pooled_outcomes(*pool, "depths", [&] { return ++called, made; });
    EXPECT_EQ(called, calls);
    ASSERT_EQ(got.size(), 2u);
    ASSERT_EQ(got[0].verdicts.size(), 2u);
    EXPECT_TRUE(got[1].verdicts.empty());
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(got[0].verdicts[i].correct, made[0].verdicts[i].correct);
      EXPECT_EQ(got[0].verdicts[i].logprob, made[0].verdicts[i].logprob);
      EXPECT_EQ(got[0].verdicts[i].margin, made[0].verdicts[i].margin);
    }
  }
}

TEST(PoolSteps, FiguresOfHeadsKeepTheirBits) {
  HeadFigures made;
  for (int64_t h = 0; h < 2; ++h) {
    HeadValues head{{3, 16 * h, 16 * h + 15}, "mamba1", Eigen::MatrixXd(5, 3)};
    for (Eigen::Index i = 0; i < 15; ++i) head.values.data()[i] = std::sin(i + 20.0 * h);
    head.values(3, 1) = std::numeric_limits<double>::quiet_NaN();
    made.heads.push_back(std::move(head));
  }
  made.aggregate = made.heads[1];
  const TempDir dir;
  for (const int calls : {1, 0}) {
    int called = 0;
    const auto pool = journalled(dir);
    const auto got = pooled_head_values(*pool, "maps", [&] { return ++called, made; });
    EXPECT_EQ(called, calls);
    ASSERT_EQ(got.heads.size(), 2u);
    for (size_t h = 0; h < 2; ++h) expect_same_bits(got.heads[h], made.heads[h]);
    EXPECT_FALSE(got.gather.has_value());
    ASSERT_TRUE(got.aggregate.has_value());
    expect_same_bits(*got.aggregate, *made.aggregate);
  }
}

TEST(PoolSteps, PrefixesKeepSearchesApart) {
  const TempDir dir;
  const auto pool = journalled(dir);
  PrefixedPool a(*pool, "a "), b(*pool, "b ");
  const auto step = [](WorkPool& one, const char* result) {
    return one.run({"heads 0.0"}, [&](size_t) { return std::string(result); }, {}).front();
  };
  EXPECT_EQ(step(a, "first"), "first");
  EXPECT_EQ(step(b, "second"), "second");
  EXPECT_EQ(step(a, "third"), "first");
}

}  // namespace
}  // namespace headlens::cli
