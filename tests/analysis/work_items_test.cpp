// headlens/tests: sweeps by a pool against sweeps in one go, and what is in an item.
#include "headlens/analysis/work_items.h"

#include <gtest/gtest.h>

#include <set>

#include "analysis/item_bytes.h"
#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/analysis/gather_aggregate.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::expect_same_verdicts;
using testing::load_model;
using testing::objective_of;
using testing::TempDir;
using testing::unlike_examples;

// Float32 of products of other sizes; log-probabilities within 20.
constexpr double kTolerance = 2e-5;

std::vector<HeadId> heads_of_layers(int64_t layers, int64_t heads) {
  std::vector<HeadId> all;
  for (int64_t l = layers - 1; l >= 0; --l) {  // not in order
    for (int64_t h = 0; h < heads; ++h) all.push_back({l, h, h});
  }
  return all;
}

// 32 layers of 32 heads, items of 32 forwards: a target of layer l costs (32 - l) / 32. While 256
// forwards or more are left items are whole, then an eighth of what is left, but 4 at least.
TEST(SweepItems, EachTargetOnceABatchInItemsThatGetSmaller) {
  const auto targets = heads_of_layers(32, 32);
  const auto items = sweep_items(32, 3, targets);
  std::vector<std::vector<int>> seen(3, std::vector<int>(targets.size()));
  int64_t left = 3 * 528 * 32, whole = 0;  // 32 x (32 + .. + 1) a batch
  for (size_t i = 0; i < items.size(); ++i) {
    int64_t cost = 0, layer = 0;
    for (const size_t t : items[i].targets) {
      ++seen[static_cast<size_t>(items[i].batch)][t];
      EXPECT_GE(targets[t].layer, layer);  // neighbours
      layer = targets[t].layer;
      cost += 32 - layer;
    }
    const bool last = i + 1 == items.size() || items[i + 1].batch != items[i].batch;
    const int64_t goal = std::max<int64_t>(4 * 32, std::min<int64_t>(32 * 32, left / 8));
    EXPECT_LT(cost, goal + 32);
    EXPECT_TRUE(last || cost >= goal) << cost;
    whole += cost >= 32 * 32;
    left -= cost;
  }
  EXPECT_EQ(left, 0);
  EXPECT_EQ(whole, 2 * 16 + 9);  // of the last batch's 528 forwards 256 are cut smaller
  EXPECT_EQ(items.size(), 66u);  // 51 of whole items alone
  for (const auto& batch : seen) {
    for (const int times : batch) EXPECT_EQ(times, 1);
  }
}

TEST(SweepItems, ABatchWithoutTargetsStillHasItsBase) {
  const auto items = sweep_items(4, 2, {});
  ASSERT_EQ(items.size(), 2u);
  EXPECT_TRUE(items[1].targets.empty());
  EXPECT_EQ(items[1].batch, 1);
}

// Attention, channels, a norm after the scan, two mixers in a layer.
class WorkItemsTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, WorkItemsTest,
                         ::testing::Values("llama", "falcon_mamba", "mamba2", "zamba2"));

TEST_P(WorkItemsTest, SweepIsTheSweep) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  const auto heads = all_heads(model.config(), 2);
  for (const AblationMode mode : {AblationMode::Zero, AblationMode::Mean, AblationMode::Resample}) {
    SweepOptions options;
    options.mode = mode;
    const auto pool = make_local_pool();
    const SweepResult whole = ablation_sweep(model, *objective, heads, options);
    const SweepResult items = pooled_sweep(*pool, model, *objective, heads, options);
    expect_same_verdicts(items.base, whole.base, kTolerance);
    ASSERT_EQ(items.variants.size(), heads.size());
    for (size_t v = 0; v < heads.size(); ++v) {
      SCOPED_TRACE("variant " + std::to_string(v));
      expect_same_verdicts(items.variants[v], whole.variants[v], kTolerance);
    }
  }
}

// Every channel of a Mamba alone: more targets than fit in an item, given in no order.
TEST(WorkItems, ALayerMayBeInSeveralItems) {
  const LanguageModel model = load_model("mamba");
  const auto objective = objective_of(unlike_examples());
  std::vector<HeadId> channels = all_heads(model.config(), INT32_MAX);
  std::reverse(channels.begin(), channels.end());
  ASSERT_GT(sweep_items(model.layer_count(), 1, channels).size(),
            static_cast<size_t>(model.layer_count()));
  const auto pool = make_local_pool();
  const SweepResult whole = ablation_sweep(model, *objective, channels);
  const SweepResult items = pooled_sweep(*pool, model, *objective, channels);
  for (size_t v = 0; v < channels.size(); ++v) {
    SCOPED_TRACE("variant " + std::to_string(v));
    expect_same_verdicts(items.variants[v], whole.variants[v], kTolerance);
  }
}

// Sums of the same terms in another order, in float64.
TEST_P(WorkItemsTest, MapFiguresAreTheMapFigures) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  const auto heads = all_heads(model.config(), 2);
  const auto pool = make_local_pool();
  const auto whole = map_figures(model, *objective, heads);
  const auto items = pooled_map_figures(*pool, model, *objective, heads);
  ASSERT_EQ(items.size(), whole.size());
  const auto expect_same = [](const std::optional<double>& a, const std::optional<double>& b) {
    ASSERT_EQ(a.has_value(), b.has_value());
    EXPECT_NEAR(a.value_or(0), b.value_or(0), 1e-6 * std::max(1.0, std::abs(b.value_or(0))));
  };
  for (size_t h = 0; h < heads.size(); ++h) {
    SCOPED_TRACE("head " + std::to_string(h));
    expect_same(items[h].entropy, whole[h].entropy);
    expect_same(items[h].entropy_norm, whole[h].entropy_norm);
    expect_same(items[h].row_mass, whole[h].row_mass);
    expect_same(items[h].gather, whole[h].gather);
    expect_same(items[h].gather_uniform, whole[h].gather_uniform);
    expect_same(items[h].aggregate, whole[h].aggregate);
    expect_same(items[h].aggregate_uniform, whole[h].aggregate_uniform);
    expect_same(items[h].target, whole[h].target);
    expect_same(items[h].target_uniform, whole[h].target_uniform);
  }
}

/// A pool that is killed when it has done so many items, and counts those it does.
class DyingPool final : public WorkPool {
 public:
  DyingPool(const std::filesystem::path& path, int64_t lives) : lives_(lives) {
    pool_->start({}, Journal::open(path, {}, {}, Journal::Existing::Resume));
  }
  void start(const RunIdentity&, std::optional<Journal>) override {}
  std::vector<std::string> run(const std::vector<std::string>& keys, const Compute& compute,
                               const Progress& progress) override {
    const std::set<std::string> distinct(keys.begin(), keys.end());
    EXPECT_EQ(distinct.size(), keys.size());
    const auto counting = [&](size_t i) {
      if (lives_-- == 0) throw std::runtime_error("killed");
      ++computed;
      return compute(i);
    };
    return pool_->run(keys, counting, progress);
  }
  bool leads() const override { return true; }
  void finish() override { pool_->finish(); }

  int64_t computed = 0;

 private:
  std::unique_ptr<WorkPool> pool_ = make_local_pool();
  int64_t lives_;
};

void expect_equal(const FindResult& a, const FindResult& b) {
  ASSERT_EQ(a.heads.size(), b.heads.size());
  EXPECT_EQ(a.base.mean_logprob, b.base.mean_logprob);
  for (size_t h = 0; h < a.heads.size(); ++h) {
    EXPECT_EQ(a.heads[h].head, b.heads[h].head);
    EXPECT_EQ(a.heads[h].logprob_drop, b.heads[h].logprob_drop) << "head " << h;
    EXPECT_EQ(a.heads[h].map.entropy, b.heads[h].map.entropy) << "head " << h;
    EXPECT_EQ(a.heads[h].screen_place, b.heads[h].screen_place) << "head " << h;
  }
}

/// Killed after every single item, a run does each of them once and ends with the same bits.
void expect_same_when_killed(FindOptions options) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  const TempDir dir;
  DyingPool once(dir.path() / "once.journal", INT64_MAX);
  options.pool = &once;
  const FindResult uninterrupted = find_gather_aggregate(model, *objective, options);
  EXPECT_GT(once.computed, 2 * objective->batch_count() - 1);
  int64_t computed = 0, kills = 0;
  for (bool finished = false; !finished; kills += !finished) {
    DyingPool pool(dir.path() / "killed.journal", 1);
    options.pool = &pool;
    try {
      expect_equal(find_gather_aggregate(model, *objective, options), uninterrupted);
      finished = true;
    } catch (const std::runtime_error& e) {
      ASSERT_STREQ(e.what(), "killed");
    }
    computed += pool.computed;
    ASSERT_LE(kills, once.computed) << "nothing was kept";
  }
  EXPECT_EQ(computed, once.computed);
  EXPECT_EQ(kills, computed - 1);
}

TEST(WorkItems, AFindThatIsKilledOverAndOverIsTheSameFind) {
  expect_same_when_killed({});
}

// The shortlist's sweep is journalled like the others, under keys of its own.
TEST(WorkItems, SoIsAScreenedFind) {
  FindOptions options;
  options.screen = ScreenOptions{};
  options.screen->count = 1;
  expect_same_when_killed(options);
}

TEST(WorkItems, OtherCutsAreOtherItems) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  const TempDir dir;
  DyingPool pool(dir.path() / "x.journal", INT64_MAX);
  const std::vector<HeadId> heads = {{0, 0, 0}, {1, 1, 1}};
  SweepOptions options;
  const auto computed_by = [&](const std::function<void()>& call) {
    const int64_t before = pool.computed;
    call();
    return pool.computed - before;
  };
  const int64_t batches = objective->batch_count();
  const auto sweep = [&] { pooled_sweep(pool, model, *objective, heads, options); };
  EXPECT_EQ(computed_by(sweep), batches);
  EXPECT_EQ(computed_by(sweep), 0);
  EXPECT_EQ(computed_by([&] {
              pooled_sweep(pool, model, *objective->part({3, 1}), heads, options, "two");
            }),
            objective->part({3, 1})->batch_count());
  options.positions = CutPositions::FromQuery;
  EXPECT_EQ(computed_by(sweep), batches);
  options.mode = AblationMode::Mean;
  EXPECT_EQ(computed_by(sweep), batches);
  const std::vector<SweepTarget> together = {{.heads = heads}};
  EXPECT_EQ(computed_by([&] { pooled_targets(pool, model, *objective, together, options); }),
            batches);
  EXPECT_EQ(computed_by([&] { pooled_map_figures(pool, model, *objective, heads); }), batches);
  EXPECT_EQ(computed_by([&] { pooled_map_figures(pool, model, *objective, {heads[1]}); }), batches);
}

TEST(ItemBytes, RefuseAnotherSize) {
  EXPECT_EQ(read_verdicts(verdict_bytes({{{true, -0.5, 2}, {false, -3, 0}}}), 1, 2)[0][0].margin,
            2);
  EXPECT_EQ(error_message<Error>([] { read_verdicts(std::string(16, '\0'), 1, 1); }),
            "[items] result of a work item, expected 17 bytes, got 16");
  EXPECT_EQ(error_message<Error>([] { read_figures("", 1); }),
            "[items] result of a work item, expected 81 bytes, got 0");
}

}  // namespace
}  // namespace headlens
