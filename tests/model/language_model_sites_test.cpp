// headlens/tests: every site of every family fires, with its shape, and what is edited there
// counts.
#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/safetensors.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::Editor;
using testing::error_message;
using testing::golden_dir;
using testing::kGoldenModels;
using testing::largest_difference;
using testing::load_golden;
using testing::logits_with;
using testing::make_ids;
using testing::MapEditor;
using testing::mixers_of;
using testing::Recorder;

constexpr double kClose = 1e-11;  // float64, logits of order ten

class SitesTest : public ::testing::TestWithParam<std::string> {
 protected:
  /// Size of one dimension in a forward of `pos` positions after `before` others.
  static int64_t size_of(const SiteInfo& info, size_t dim, int64_t batch, int64_t pos,
                         int64_t before) {
    if (info.sizes[dim] >= 0) return info.sizes[dim];
    if (info.dims[dim] == "batch") return batch;
    const bool softmax = info.name.find(".attn.") != std::string::npos;
    return info.dims[dim] == "k" && softmax ? before + pos : pos;
  }

  void expect_all_sites(const Recorder& recorder, int64_t batch, int64_t pos,
                        int64_t before) const {
    const std::vector<SiteInfo> sites = sites_of(model_.config());
    ASSERT_EQ(recorder.order.size(), sites.size());
    for (size_t i = 0; i < sites.size(); ++i) {
      const SiteInfo& info = sites[i];
      EXPECT_EQ(recorder.order[i], info.name);
      std::vector<int64_t> expected;
      for (size_t dim = 0; dim < info.dims.size(); ++dim) {
        expected.push_back(size_of(info, dim, batch, pos, before));
      }
      EXPECT_EQ(recorder.seen.at(info.name).sizes(), expected) << info.name << info.shape;
    }
  }

  /// The model with other values in the columns of one head's output projection.
  LanguageModel without_head(int64_t layer, int64_t head) const {
    const auto file = SafetensorsFile::open(golden_dir(GetParam()) / "model.safetensors");
    std::map<std::string, Tensor> weights;
    for (const std::string& key : file.names()) {
      weights[key] = file.tensor(key).to(at::kDouble);
    }
    LanguageModel cut = LanguageModel::build(model_.config(),
                                             WeightScope::from_map(weights, at::kDouble, at::kCPU));
    cut.head_output_weight(layer, head).zero_();
    return cut;
  }

  LanguageModel model_ = load_golden(GetParam());
  Tensor ids_ = make_ids(2, 9);
};

TEST_P(SitesTest, AllFireInPrefillAndDecodingInOrder) {
  Recorder prefill;
  ModelState state;
  model_.forward(ids_, {.tap = &prefill, .state = &state});
  expect_all_sites(prefill, 2, 9, 0);
  Recorder decode;
  model_.forward(make_ids(2, 1), {.tap = &decode, .state = &state});
  expect_all_sites(decode, 2, 1, 9);
}

TEST_P(SitesTest, LookingChangesNothing) {
  Recorder recorder;
  EXPECT_TRUE(at::equal(logits_with(model_, ids_, recorder), model_.forward(ids_)));
}

TEST_P(SitesTest, NumelIsThatOfTheTensor) {
  Recorder recorder;
  logits_with(model_, ids_, recorder);
  for (const SiteInfo& info : sites_of(model_.config())) {
    EXPECT_EQ(site_numel(model_.config(), info.point, 2, 9), recorder.seen[info.name].numel());
  }
}

TEST_P(SitesTest, EveryEditReachesTheLogits) {
  const Tensor plain = model_.forward(ids_);
  for (const SiteInfo& info : sites_of(model_.config())) {
    Editor editor(info.point, [](Tensor x) { return x + 0.1 * at::rand_like(x); });
    if (site_is_read_only(info.point.site)) {
      EXPECT_EQ(error_message<HookError>([&] { logits_with(model_, ids_, editor); }),
                "[" + info.name +
                    "] this site can only be read, expected the tensor that was given, got "
                    "another");
      continue;
    }
    EXPECT_GT(largest_difference(logits_with(model_, ids_, editor), plain), 1e-6) << info.name;
  }
}

TEST_P(SitesTest, AnEditInDecodingReachesTheLogits) {
  ModelState state;
  model_.forward(ids_, {.state = &state});
  const Tensor next = make_ids(2, 1);
  ModelState fresh = state.clone();
  const Tensor plain = model_.forward(next, {.state = &fresh});
  for (const SiteInfo& info : sites_of(model_.config())) {
    if (site_is_read_only(info.point.site)) continue;
    Editor editor(info.point, [](Tensor x) { return x * 1.5 + 0.1 * at::rand_like(x); });
    fresh = state.clone();
    const Tensor edited = model_.forward(next, {.tap = &editor, .state = &fresh});
    EXPECT_GT(largest_difference(edited, plain), 1e-6) << info.name;
  }
}

TEST_P(SitesTest, AHeadCutAtZIsAHeadWithoutOutputWeights) {
  for (const auto& mixer : mixers_of(model_.config())) {
    const LayerSpec& layer = model_.config().layers[static_cast<size_t>(mixer.layer)];
    const bool shared = layer.wiring == Wiring::SharedBlock && mixer.bank.first > 0;
    if (shared) continue;  // its weights are other layers' as well
    const int64_t head = mixer.bank.count - 1;
    Editor cut(mixer.z, [&](Tensor z) {
      Tensor kept = z.clone();
      kept.select(2, head).zero_();
      return kept;
    });
    const LanguageModel without = without_head(mixer.layer, mixer.bank.first + head);
    EXPECT_LT(largest_difference(logits_with(model_, ids_, cut), without.forward(ids_)), kClose);
  }
}

TEST_P(SitesTest, TheDenseMapAppliedIsTheFusedPath) {
  const Tensor plain = model_.forward(ids_);
  for (const auto& mixer : mixers_of(model_.config())) {
    Editor copy(mixer.map, [](Tensor map) { return map.clone(); });
    EXPECT_LT(largest_difference(logits_with(model_, ids_, copy), plain), kClose);
  }
}

TEST_P(SitesTest, KnockingOutByHandleIsKnockingOutInTheDenseMap) {
  for (const auto& mixer : mixers_of(model_.config())) {
    MapEditor by_handle(mixer.map, [](HeadMap& map) {
      MapEdit edit;
      edit.heads = {1};
      edit.keys = at::arange(map.keys()).lt(4);
      map.edit(std::move(edit));
    });
    Editor dense(mixer.map, [](Tensor map) {
      Tensor kept = map.clone();
      kept.select(1, 1).narrow(2, 0, 4).zero_();
      return kept;
    });
    const Tensor expected = logits_with(model_, ids_, dense);
    EXPECT_GT(largest_difference(expected, model_.forward(ids_)), 1e-6);
    EXPECT_LT(largest_difference(logits_with(model_, ids_, by_handle), expected), kClose);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SitesTest, ::testing::ValuesIn(kGoldenModels),
                         [](const auto& info) { return info.param; });

// Hiding keys in the scores is attention knockout: the softmax spreads what was there.
TEST(ScoresTest, HiddenKeysAreRenormalised) {
  const LanguageModel model = load_golden("llama");
  const Tensor ids = make_ids(2, 7);
  Editor scores({Site::AttnScores, 1}, [](Tensor x) {
    Tensor hidden = x.clone();
    hidden.narrow(-1, 0, 3).fill_(-INFINITY);
    return hidden;
  });
  MapEditor by_handle({Site::Pattern, 1}, [](HeadMap& map) {
    MapEdit edit;
    edit.keys = at::arange(map.keys()).lt(3);
    edit.renormalize = true;
    map.edit(std::move(edit));
  });
  const Tensor hidden = logits_with(model, ids, scores);
  EXPECT_TRUE(hidden.isfinite().all().item<bool>());
  EXPECT_LT(largest_difference(hidden, logits_with(model, ids, by_handle)), kClose);
}

TEST(TapErrors, ShapeAndUndefined) {
  const LanguageModel model = load_golden("llama");
  const auto run = [&](const Editor::Edit& edit) {
    Editor editor({Site::Z, 0}, edit);
    logits_with(model, make_ids(1, 2), editor);
  };
  EXPECT_EQ(error_message<ShapeError>([&] { run([](Tensor z) { return z.flatten(2); }); }),
            "[blocks.0.attn.hook_z] shape after the tap, expected [1, 2, 4, 12], got [1, 2, 48]");
  EXPECT_EQ(error_message<HookError>([&] { run([](Tensor) { return Tensor(); }); }),
            "[blocks.0.attn.hook_z] the tap returned no tensor");
  EXPECT_EQ(error_message<HookError>([&] { run([](Tensor z) { return z.zero_(); }); }),
            "[blocks.0.attn.hook_z] the tap wrote into the tensor, expected it to return another");
}

}  // namespace
}  // namespace headlens
