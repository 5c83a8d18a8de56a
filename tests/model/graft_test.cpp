// headlens/tests: grafted layers and heads against checkpoints with swapped tensors, and by parts.
#include "headlens/model/graft.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/safetensors.h"
#include "headlens/model/block.h"
#include "headlens/model/decoder.h"
#include "headlens/model/generate.h"
#include "model/model_tools.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::golden_dir;
using testing::kGoldenModels;
using testing::largest_difference;
using testing::load_golden;
using testing::make_ids;
using testing::MixerSites;
using testing::Recorder;
using testing::TempDir;

constexpr double kClose = 1e-12;  // float64, logits of size 1: the same sums in another order

using Weights = std::map<std::string, Tensor>;

Weights weights_of(const std::string& name) {
  Weights weights;
  const auto file = SafetensorsFile::open(golden_dir(name) / "model.safetensors");
  for (const std::string& key : file.names()) weights[key] = file.tensor(key).to(at::kDouble);
  return weights;
}

/// The checkpoint with other weights, moved enough to matter and little enough to stay a model.
Weights others(const Weights& weights) {
  Weights other;
  int64_t seed = 0;
  for (const auto& [name, tensor] : weights) {
    const Tensor noise = at::arange(tensor.numel(), at::kDouble).add(++seed).mul(12.9898).sin();
    other[name] = tensor * (1 + 0.2 * noise.view(tensor.sizes()));
  }
  return other;
}

/// Written as a checkpoint and loaded.
LanguageModel load_written(const std::string& name, const Weights& weights) {
  const TempDir dir;
  std::filesystem::copy_file(golden_dir(name) / "config.json", dir.path() / "config.json");
  save_safetensors(dir.path() / "model.safetensors", {weights.begin(), weights.end()});
  return LanguageModel::load(dir.path(), {.dtype = at::kDouble});
}

/// The golden models but Zamba2, whose shared blocks are refused.
std::vector<std::string> models_of_own_layers() {
  std::vector<std::string> names = kGoldenModels;
  std::erase(names, "zamba2");
  return names;
}

/// Logits of the text run at once, and of its steps by a Decoder and by forwards on a state.
void expect_steps_like_the_whole(const LanguageModel& model) {
  constexpr int64_t kPrompt = 5, kAll = 11;
  const Tensor ids = make_ids(2, kAll);
  for (const Tensor& first : {Tensor(), at::tensor({0, 3}, at::kLong)}) {
    const Tensor whole = model.forward(ids, {.first = first});
    Decoder decoder(model, ids.narrow(1, 0, kPrompt), {.max_length = kAll, .first = first});
    Decoder seen(model, ids.narrow(1, 0, kPrompt), {.max_length = kAll, .first = first});
    ModelState state;
    model.forward(ids.narrow(1, 0, kPrompt), {.state = &state, .first = first});
    for (int64_t at = kPrompt; at < kAll; ++at) {
      const Tensor expected = whole.select(1, at), token = ids.select(1, at);
      EXPECT_LE(largest_difference(decoder.step(token), expected), kClose) << at;
      Recorder recorder;
      EXPECT_LE(largest_difference(seen.step(token, &recorder), expected), kClose) << at;
      const Tensor next = model.forward(token.unsqueeze(1), {.state = &state});
      EXPECT_LE(largest_difference(next.select(1, 0), expected), kClose) << at;
    }
    ModelState left = decoder.state();
    EXPECT_LE(largest_difference(model.forward(ids.narrow(1, 0, 1), {.state = &left}),
                                 model.forward(ids.narrow(1, 0, 1), {.state = &state})),
              kClose);
  }
}

class GraftTest : public ::testing::TestWithParam<std::string> {
 protected:
  LanguageModel model_ = load_golden(GetParam());
  Tensor ids_ = make_ids(2, 9);
};

TEST_P(GraftTest, ItsOwnLayersAndHeadsChangeNothing) {
  const Tensor logits = model_.forward(ids_);
  for (int64_t layer = 0; layer < model_.layer_count(); ++layer) {
    const LanguageModel same = graft_layers(model_, model_, {{layer, layer}});
    EXPECT_TRUE(at::equal(same.forward(ids_), logits)) << layer;
    EXPECT_EQ(same.weight_bytes(), model_.weight_bytes());
    const LayerSpec& spec = model_.config().layers[static_cast<size_t>(layer)];
    if (head_banks(spec).size() != 1) continue;
    const LanguageModel mixer = graft_layers(model_, model_, {{layer, layer, true}});
    EXPECT_TRUE(at::equal(mixer.forward(ids_), logits)) << layer;
    for (const int64_t head : {int64_t{0}, head_count(spec) - 1}) {
      const HeadPlace place{layer, head};
      const LanguageModel grafted = graft_heads(model_, model_, {{place, place}});
      EXPECT_LE(largest_difference(grafted.forward(ids_), logits), kClose) << layer << "." << head;
      EXPECT_EQ(grafted.weight_bytes(), model_.weight_bytes());
    }
  }
}

TEST_P(GraftTest, ALayerOfOtherWeightsIsTheCheckpointWithItsTensors) {
  const Weights own = weights_of(GetParam()), other = others(own);
  const LanguageModel donor = load_written(GetParam(), other);
  for (int64_t layer = 0; layer < model_.layer_count(); ++layer) {
    Weights swapped = own;
    int64_t count = 0;
    for (const auto& [name, tensor] : other) {
      const bool of_layer =
          name.find("layers." + std::to_string(layer) + ".") != std::string::npos ||
          name.find("h." + std::to_string(layer) + ".") != std::string::npos;
      if (of_layer) swapped[name] = tensor, ++count;
    }
    ASSERT_GT(count, 0);
    const Tensor expected = load_written(GetParam(), swapped).forward(ids_);
    const LanguageModel grafted = graft_layers(model_, donor, {{layer, layer}});
    EXPECT_TRUE(at::equal(grafted.forward(ids_), expected)) << layer;
    EXPECT_GT(largest_difference(expected, model_.forward(ids_)), 1e-3) << layer;
  }
}

// What the donor's mixer writes to the recipient's residual, its norms included; the recipient's
// MLP then reads that.
TEST_P(GraftTest, AMixerBringsItsNormsAndLeavesTheMlp) {
  const LanguageModel donor = load_written(GetParam(), others(weights_of(GetParam())));
  for (const MixerSites& mixer : testing::mixers_of(model_.config())) {
    const int64_t layer = mixer.layer;
    if (model_.config().layers[static_cast<size_t>(layer)].attention) continue;
    const Tensor entering = model_.run_layers(model_.embed(ids_), 0, layer);
    Recorder recorder;
    donor.run_layers(entering, layer, layer + 1, &recorder);
    testing::Editor written(mixer.out,
                            [&](const Tensor&) { return recorder.seen.at(site_name(mixer.out)); });
    const LanguageModel grafted = graft_layers(model_, donor, {{layer, layer, true}});
    EXPECT_LE(largest_difference(grafted.run_layers(entering, layer, layer + 1),
                                 model_.run_layers(entering, layer, layer + 1, &written)),
              kClose)
        << layer;
  }
}

/// Replaces what the heads of one layer put out and what its mixer writes.
class ByHand : public Tap {
 public:
  ByHand(const MixerSites& mixer, int64_t head, Tensor written)
      : mixer_(mixer), head_(head), written_(std::move(written)) {}
  bool wants(TapPoint point) const override { return point == mixer_.z || point == mixer_.out; }
  Tensor visit(TapPoint point, Tensor value) override {
    if (point == mixer_.out) return value + written_;
    value = value.clone();
    value.select(2, head_).zero_();
    return value;
  }

 private:
  MixerSites mixer_;
  int64_t head_;
  Tensor written_;
};

// Any layer's heads into any layer, of layers without a norm between the mixer and the residual.
TEST_P(GraftTest, AHeadIsWhatItsLayerWouldWriteThere) {
  const LanguageModel donor = load_written(GetParam(), others(weights_of(GetParam())));
  for (const MixerSites& to : testing::mixers_of(model_.config())) {
    for (const MixerSites& from : testing::mixers_of(model_.config())) {
      const auto& layers = model_.config().layers;
      const LayerSpec& into = layers[static_cast<size_t>(to.layer)];
      if (into.attention || testing::has_post_norm(into)) continue;
      const int64_t head = to.bank.count - 1, theirs = 1;
      const Tensor entering = model_.run_layers(model_.embed(ids_), 0, to.layer);
      Recorder recorder;
      donor.run_layers(entering, from.layer, from.layer + 1, &recorder);
      const Tensor z = recorder.seen.at(site_name(from.z));  // [batch, pos, head..]
      const Tensor z_h = z.select(2, theirs).reshape({2, 9, -1});
      const Tensor written =
          at::einsum("bpw,mw->bpm", {z_h, donor.head_output_weight(from.layer, theirs)}) *
          from.bank.out_scale;
      ByHand by_hand(to, head, written);
      const LanguageModel grafted =
          graft_heads(model_, donor, {{{from.layer, theirs}, {to.layer, head}}});
      EXPECT_LE(
          largest_difference(grafted.forward(ids_), testing::logits_with(model_, ids_, by_hand)),
          kClose)
          << from.layer << " to " << to.layer;
    }
  }
}

TEST_P(GraftTest, StepsAreTheWholeText) {
  const LanguageModel donor = load_written(GetParam(), others(weights_of(GetParam())));
  const int64_t last = model_.layer_count() - 1;
  expect_steps_like_the_whole(graft_layers(model_, donor, {{0, last}}));
  for (const MixerSites& mixer : testing::mixers_of(model_.config())) {
    const LayerSpec& spec = model_.config().layers[static_cast<size_t>(mixer.layer)];
    if (head_banks(spec).size() != 1) continue;
    const std::vector<HeadGraft> both = {{{mixer.layer, 1}, {mixer.layer, 0}},
                                         {{mixer.layer, 0}, {mixer.layer, 1}}};
    expect_steps_like_the_whole(graft_heads(model_, donor, both));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GraftTest, ::testing::ValuesIn(models_of_own_layers()),
                         [](const auto& row) { return row.param; });

/// Models of one width and vocabulary: attention of two norms, Mamba-2, Mamba-1 and hybrids.
class UnlikeGraft : public ::testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  LanguageModel recipient_ = load_golden(GetParam().first);
  LanguageModel donor_ = load_golden(GetParam().second);
};

TEST_P(UnlikeGraft, EachLayerKeepsItsStateAndItsPositions) {
  for (int64_t layer = 0; layer < recipient_.layer_count(); ++layer) {
    const int64_t from = std::min(layer, donor_.layer_count() - 1);
    const LanguageModel grafted = graft_layers(recipient_, donor_, {{from, layer}});
    const Tensor ids = make_ids(2, 8),
                 entering = recipient_.run_layers(recipient_.embed(ids), 0, layer);
    const Tensor by_parts = recipient_.unembed(recipient_.run_layers(
        donor_.run_layers(entering, from, from + 1), layer + 1, recipient_.layer_count()));
    EXPECT_LE(largest_difference(grafted.forward(ids), by_parts), kClose);
    expect_steps_like_the_whole(grafted);
    ModelState state, alone;
    grafted.forward(ids, {.state = &state});
    donor_.forward(ids, {.state = &alone});
    const LayerState &is = state.layers[static_cast<size_t>(layer)],
                     &own = alone.layers[static_cast<size_t>(from)];
    EXPECT_EQ(is.k.defined(), own.k.defined());
    EXPECT_EQ(is.conv.defined(), own.conv.defined());
    EXPECT_EQ(is.ssm.defined(), own.ssm.defined());
  }
}

TEST_P(UnlikeGraft, StepsWithAGraftedHeadAreTheWholeText) {
  for (const MixerSites& to : testing::mixers_of(recipient_.config())) {
    for (const MixerSites& from : testing::mixers_of(donor_.config())) {
      expect_steps_like_the_whole(
          graft_heads(recipient_, donor_, {{{from.layer, 0}, {to.layer, 1}}}));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Pairs, UnlikeGraft,
    ::testing::Values(std::pair{"mamba2", "llama"}, std::pair{"llama", "mamba2"},
                      std::pair{"llama", "gpt_neox"}, std::pair{"bamba", "phi3"},
                      std::pair{"mamba", "qwen3"}, std::pair{"qwen3", "mamba"}),
    [](const auto& row) { return std::string(row.param.first) + "_" + row.param.second; });

// GPT-NeoX keeps all that is one head's in rows and columns of its own: q, k, v and output.
TEST(GraftedHead, IsTheCheckpointWithItsRowsAndColumns) {
  const std::string name = "gpt_neox", where = "gpt_neox.layers.1.attention.";
  const Weights own = weights_of(name), other = others(own);
  const LanguageModel model = load_written(name, own);
  const auto& spec = std::get<AttentionSpec>(*model.config().layers[1].mixer);
  const int64_t head = 2, d = spec.d_head;
  Weights donor = other, swapped = own;  // the donor's norms are the recipient's
  for (auto& [key, tensor] : donor) {
    if (key.find("layernorm") != std::string::npos) tensor = own.at(key);
  }
  const auto swap = [&](const std::string& key, int64_t dim, int64_t from, int64_t count) {
    swapped[where + key] = own.at(where + key).clone();
    swapped[where + key]
        .narrow(dim, from, count)
        .copy_(other.at(where + key).narrow(dim, from, count));
  };
  swap("query_key_value.weight", 0, head * 3 * d, 3 * d);
  swap("query_key_value.bias", 0, head * 3 * d, 3 * d);
  swap("dense.weight", 1, head * d, d);
  const LanguageModel grafted =
      graft_heads(model, load_written(name, donor), {{{1, head}, {1, head}}});
  const Tensor ids = make_ids(2, 9);
  const Tensor expected = load_written(name, swapped).forward(ids);
  EXPECT_LE(largest_difference(grafted.forward(ids), expected), kClose);
  EXPECT_GT(largest_difference(expected, model.forward(ids)), 1e-3);
}

TEST(GraftedHead, ShowsWhatTheResidualGetsAndNoHeadInItsPlace) {
  for (const char* name : {"llama", "mamba2", "mamba"}) {
    const LanguageModel model = load_golden(name);
    const MixerSites mixer = testing::mixers_of(model.config())[1];
    const LanguageModel donor = load_written(name, others(weights_of(name)));
    const LanguageModel grafted = graft_heads(model, donor, {{{1, 0}, {mixer.layer, 1}}});
    Recorder recorder;
    grafted.forward(make_ids(2, 9), {.tap = &recorder});
    const auto seen = [&](TapPoint point) { return recorder.seen.at(site_name(point)); };
    const bool has_mid = model.config().layers[1].mlp.has_value();
    const Tensor after = seen({has_mid ? Site::ResidMid : Site::ResidPost, mixer.layer});
    EXPECT_LE(largest_difference(seen({Site::ResidPre, mixer.layer}) + seen(mixer.out), after),
              kClose)
        << name;
  }
}

TEST(GraftedHead, LastLayerAtChosenPositionsIsTheSame) {
  const LanguageModel model = load_golden("llama"), donor = load_golden("mamba2");
  const int64_t last = model.layer_count() - 1;
  const LanguageModel grafted = graft_heads(model, donor, {{{0, 1}, {last, 2}}});
  const Tensor ids = make_ids(2, 9), resid = grafted.embed(ids);
  const Tensor positions = at::tensor({8, 4, 2, 8}, at::kLong).view({2, 2});
  const Tensor whole = grafted.run_layers(resid, 0, last + 1);
  const Tensor expected = whole.gather(1, positions.unsqueeze(-1).expand({2, 2, whole.size(2)}));
  EXPECT_LE(largest_difference(grafted.run_to_end(resid, 0, positions), expected), kClose);
}

TEST(GraftedHead, GenerateWritesWhatTheWholeTextSays) {
  const LanguageModel grafted =
      graft_heads(load_golden("mamba2"), load_golden("llama"), {{{1, 0}, {1, 1}}});
  const std::vector<int64_t> prompt = {3, 41, 7, 88, 5};
  const auto written =
      generate(grafted, {prompt}, {.max_new_tokens = 6, .ignore_end_tokens = true});
  std::vector<int64_t> text = prompt;
  for (const int64_t token : written.at(0).tokens) {
    const Tensor logits = grafted.forward(at::tensor(text, at::kLong).unsqueeze(0));
    EXPECT_EQ(logits[0][-1].argmax().item<int64_t>(), token);
    text.push_back(token);
  }
  EXPECT_EQ(text.size(), prompt.size() + 6);
}

TEST(Graft, RefusesInOneLineEach) {
  const LanguageModel llama = load_golden("llama"), mamba2 = load_golden("mamba2");
  const auto layers = [](const LanguageModel& to, const LanguageModel& from,
                         std::vector<LayerGraft> grafts) {
    return error_message<Error>([&] { graft_layers(to, from, grafts); });
  };
  const auto heads = [](const LanguageModel& to, const LanguageModel& from,
                        std::vector<HeadGraft> grafts) {
    return error_message<Error>([&] { graft_heads(to, from, grafts); });
  };
  EXPECT_EQ(layers(llama, load_golden("gpt2"), {{0, 0}}),
            "[graft] width of the donor, expected the recipient's 36, got 30");
  EXPECT_EQ(layers(llama, load_golden("llama", at::kFloat), {{0, 0}}),
            "[graft] dtype of the donor, expected the recipient's float64, got float32");
  EXPECT_EQ(layers(llama, mamba2, {{3, 0}}), "[graft] layer of the donor, expected 0 to 2, got 3");
  EXPECT_EQ(layers(llama, mamba2, {{0, -1}}),
            "[graft] layer of the recipient, expected 0 to 2, got -1");
  EXPECT_EQ(layers(llama, mamba2, {{0, 1}, {1, 1}}),
            "[graft] layer 1 of the recipient, expected once, got it more often");
  EXPECT_EQ(layers(llama, load_golden("gpt_neox"), {{0, 0, true}}),
            "[graft] mixer of the donor's layer 0, expected a layer put together as the "
            "recipient's layer 0 (sequential), got parallel");
  const LanguageModel zamba = load_golden("zamba2");
  int64_t shared = 0;
  while (zamba.config().layers[static_cast<size_t>(shared)].wiring != Wiring::SharedBlock) ++shared;
  EXPECT_EQ(layers(zamba, zamba, {{shared, shared}}),
            "[graft] layer " + std::to_string(shared) +
                " of the donor, expected one with weights of its own, got a shared block "
                "(Zamba2), whose weights and reading of the embedding belong to its model");
  EXPECT_EQ(heads(llama, mamba2, {{{0, 0}, {0, 99}}}),
            "[graft] head of the recipient's layer 0, expected 0 to 3, got 99");
  EXPECT_EQ(heads(llama, mamba2, {{{0, 0}, {0, 1}}, {{1, 0}, {0, 1}}}),
            "[graft] head 0.1 of the recipient, expected once, got it more often");
  const LanguageModel falcon = load_golden("falcon_h1"), olmo = load_golden("olmo2");
  EXPECT_EQ(heads(falcon, falcon, {{{0, 0}, {0, 0}}}),
            "[graft] layer 0 of the donor, expected one with one mixer, got mamba2+attention");
  EXPECT_EQ(heads(load_golden("falcon_mamba"), olmo, {{{0, 0}, {0, 0}}}),
            "[graft] head 0.0 of the donor, expected a layer put together as the recipient's "
            "layer 0 (sequential), got post_norm");
  const LanguageModel once = graft_heads(llama, mamba2, {{{0, 0}, {0, 1}}});
  EXPECT_EQ(heads(once, mamba2, {{{0, 0}, {0, 2}}}),
            "[graft] head 0.0 into 0.2, expected layers without grafted heads, got some");
  EXPECT_EQ(error_message<Error>([&] {
              once.finish_layer(0, at::zeros({1, 1, 36}, at::kDouble),
                                at::zeros({1, 1, 36}, at::kDouble));
            }),
            "[finish_layer] layer, expected one with its own heads alone, got 1 grafted");
}

}  // namespace
}  // namespace headlens
