// headlens/tests: the recorder keeps what the model made, in the form that was asked for, and says
// what is missing.
#include "headlens/hooks/recorder.h"

#include <gtest/gtest.h>

#include "headlens/core/safetensors.h"
#include "hooks/hook_tools.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::config_of;
using testing::difference;
using testing::kFamilies;
using testing::load_model;
using testing::message_of;
using testing::some_ids;
using testing::watch;

class RecorderFamilyTest : public ::testing::TestWithParam<std::string> {};

TEST_P(RecorderFamilyTest, EverySiteAsTheTapSeesIt) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 6);
  const auto seen = watch(model, ids);
  Recorder recorder(model.config(), {"*"});
  model.forward(ids, {.tap = &recorder});
  const ActivationCache cache = recorder.take();
  EXPECT_EQ(cache.size(), seen.seen.size());
  for (const auto& [name, value] : cache) EXPECT_TRUE(at::equal(value, seen[name])) << name;
}

TEST_P(RecorderFamilyTest, PositionsOfEverySite) {
  const LanguageModel model = load_model(GetParam());
  const Tensor ids = some_ids(2, 6);
  const auto seen = watch(model, ids);
  Recorder recorder(model.config(), {"*"}, {.positions = {1, -1}});
  model.forward(ids, {.tap = &recorder});
  const Tensor index = at::tensor({1, 5}, at::kLong);
  for (const SiteInfo& info : sites_of(model.config())) {
    int64_t dim = -1;
    for (size_t i = 0; i < info.dims.size(); ++i) {
      if (info.dims[i] == "pos" || info.dims[i] == "q") dim = static_cast<int64_t>(i);
    }
    const Tensor whole = seen[info.name];
    const Tensor expected = dim < 0 ? whole : whole.index_select(dim, index);
    // Rows made alone may differ from rows of the whole map in the last bits of float64; -inf -
    // -inf is no number.
    const Tensor got = recorder.cache()[info.name];
    EXPECT_TRUE(at::allclose(got, expected, 1e-10, 1e-12)) << info.name;
  }
}

TEST_P(RecorderFamilyTest, PredictedBytesAreRight) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const LanguageModel model = load_model(GetParam(), dtype);
    for (const std::vector<int64_t>& positions : {std::vector<int64_t>{}, {0, 3, -1}}) {
      const RecordOptions options{.positions = positions};
      Recorder recorder(model.config(), {"*"}, options);
      model.forward(some_ids(2, 6), {.tap = &recorder});
      EXPECT_EQ(recorder.cache().bytes(),
                recording_bytes(model.config(), {"*"}, 2, 6, dtype, options));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, RecorderFamilyTest, ::testing::ValuesIn(kFamilies),
                         [](const auto& info) { return info.param; });

TEST(RecorderTest, BytesByHand) {
  const ModelConfig config = config_of("llama");  // 3 layers, 4 heads
  EXPECT_EQ(recording_bytes(config, {"blocks.*.attn.hook_pattern"}, 2, 10),
            3 * 2 * 4 * 10 * 10 * 4);
  EXPECT_EQ(recording_bytes(config, {"logits"}, 2, 10, at::kHalf), 2 * 10 * 97 * 2);
  EXPECT_EQ(recording_bytes(config, {"logits"}, 2, 10, at::kHalf, {.dtype = at::kDouble}),
            2 * 10 * 97 * 8);
  EXPECT_EQ(recording_bytes(config, {"blocks.0.hook_q_input"}, 1, 5), 5 * 4 * 36 * 4);
  EXPECT_EQ(recording_bytes(config_of("mamba"), {"blocks.0.hook_h.3"}, 2, 10), 2 * 56 * 5 * 4);
}

TEST(RecorderTest, ANameAskedTwiceIsRecordedOnce) {
  const LanguageModel model = load_model("llama");
  Recorder recorder(model.config(), {"logits", "logits", "unembed.hook_out"});
  const Tensor logits = model.forward(some_ids(1, 3), {.tap = &recorder});
  EXPECT_EQ(recorder.cache().names(), (std::vector<std::string>{"logits", "unembed.hook_out"}));
  EXPECT_TRUE(at::equal(recorder.cache()["unembed.hook_out"], logits));
}

TEST(RecorderTest, DetachedUnlessAsked) {
  const LanguageModel model = load_model("llama");
  const Tensor resid = model.embed(some_ids(1, 3)).detach().requires_grad_(true);
  Recorder plain(model.config(), {"blocks.0.hook_resid_post"});
  Recorder with_grad(model.config(), {"blocks.0.hook_resid_post"}, {.keep_grad = true});
  model.run_layers(resid, 0, 1, &plain);
  model.run_layers(resid, 0, 1, &with_grad);
  EXPECT_FALSE(plain.cache()["blocks.0.hook_resid_post"].requires_grad());
  EXPECT_TRUE(with_grad.cache()["blocks.0.hook_resid_post"].requires_grad());
}

TEST(RecorderTest, DtypeOfFloatingPointTensors) {
  const LanguageModel model = load_model("llama");
  Recorder recorder(model.config(), {"logits"}, {.device = at::kCPU, .dtype = at::kHalf});
  model.forward(some_ids(1, 3), {.tap = &recorder});
  EXPECT_EQ(recorder.cache()["logits"].scalar_type(), at::kHalf);
}

TEST(RecorderTest, ASliceKeepsNoMoreThanItsOwnMemory) {
  const LanguageModel model = load_model("mamba");
  Recorder recorder(model.config(), {"blocks.0.mixer.hook_gate", "blocks.0.hook_h.0"});
  model.forward(some_ids(2, 5), {.tap = &recorder});
  for (const auto& [name, value] : recorder.cache()) {
    EXPECT_EQ(value.storage().nbytes(), value.nbytes()) << name;
  }
}

TEST(RecorderTest, MapsWithPositionsAreNeverMadeWhole) {
  const ModelConfig config = config_of("bamba");
  const Recorder whole(config, {"blocks.*.{attn.hook_pattern,mixer.hook_map}"});
  const Recorder rows(config, {"blocks.*.{attn.hook_pattern,mixer.hook_map}"}, {.positions = {-1}});
  EXPECT_TRUE(whole.wants({Site::Map, 0}));
  EXPECT_FALSE(whole.wants_map({Site::Map, 0}));
  EXPECT_FALSE(rows.wants({Site::Map, 0}));
  EXPECT_TRUE(rows.wants_map({Site::Map, 0}));
  EXPECT_TRUE(rows.wants_map({Site::Pattern, 1}));
}

TEST(RecorderTest, MissingSitesAreNamed) {
  const LanguageModel model = load_model("llama");
  Recorder recorder(model.config(), {"blocks.*.hook_resid_post", "logits"});
  model.run_layers(model.embed(some_ids(1, 3)), 0, 2, &recorder);
  EXPECT_EQ(
      message_of<HookError>([&] { recorder.take(); }),
      "[record] sites, expected each to fire, got no call of blocks.2.hook_resid_post, logits");
}

TEST(RecorderTest, ErrorsBeforeTheForward) {
  const ModelConfig config = config_of("llama");
  EXPECT_THROW(Recorder(config, {"blocks.0.mixer.hook_map"}), HookError);
  EXPECT_THROW(Recorder(config, {}), HookError);
  EXPECT_THROW(recording_bytes(config, {"no_such_site"}, 1, 1), HookError);
}

TEST(RecorderTest, PositionsOutOfRange) {
  const LanguageModel model = load_model("llama");
  Recorder recorder(model.config(), {"logits"}, {.positions = {3}});
  EXPECT_EQ(message_of<HookError>([&] { model.forward(some_ids(1, 3), {.tap = &recorder}); }),
            "[record] position, expected -3 to 2, got 3");
}

TEST(RecorderTest, ADecodingStepAtATime) {
  const LanguageModel model = load_model("bamba");
  const Tensor ids = some_ids(1, 6);
  const auto whole = watch(model, ids);
  ModelState state;
  Recorder recorder(model.config(), {"blocks.*.attn.hook_z", "blocks.*.mixer.hook_z"});
  model.forward(ids.slice(1, 0, 5), {.state = &state});
  model.forward(ids.slice(1, 5), {.tap = &recorder, .state = &state});
  for (const auto& [name, value] : recorder.take()) {
    // float64, another order of summation
    EXPECT_LT(difference(value, whole[name].slice(1, 5)), 1e-10) << name;
  }
}

}  // namespace
}  // namespace headlens
