// headlens/tests: forwards in one go, in pieces, restarted, cut to layers; what they refuse.
#include "headlens/model/language_model.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/safetensors.h"
#include "headlens/model/families.h"
#include "model/model_tools.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::golden_dir;
using testing::has_post_norm;
using testing::kGoldenModels;
using testing::largest_difference;
using testing::load_golden;
using testing::make_ids;
using testing::mixers_of;
using testing::Recorder;
using testing::TempDir;

// Float64: other orders of summation, and a scan cut into other chunks, at logits of order ten.
constexpr double kClose = 1e-11;

class LanguageModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  LanguageModel model_ = load_golden(GetParam());
  Tensor ids_ = make_ids(2, 11);
};

TEST_P(LanguageModelTest, PiecesGiveWhatOneGoGives) {
  const Tensor whole = model_.forward(ids_);
  for (const std::vector<int64_t>& cuts : std::vector<std::vector<int64_t>>{
           {11}, {5, 6}, {1, 3, 7}, {10, 1}, std::vector<int64_t>(11, 1)}) {
    ModelState state;
    std::vector<Tensor> pieces;
    int64_t first = 0;
    for (const int64_t count : cuts) {
      pieces.push_back(model_.forward(ids_.narrow(1, first, count), {.state = &state}));
      first += count;
    }
    EXPECT_EQ(state.position, 11);
    EXPECT_LT(largest_difference(at::cat(pieces, 1), whole), kClose) << cuts.size() << " pieces";
  }
}

TEST_P(LanguageModelTest, AStateIsNotChangedThroughItsCopy) {
  ModelState state;
  model_.forward(ids_.narrow(1, 0, 6), {.state = &state});
  const ModelState before = state.clone();
  const Tensor next = ids_.narrow(1, 6, 2);
  const Tensor first = model_.forward(next, {.state = &state});
  ModelState again = before.clone();
  EXPECT_TRUE(at::equal(first, model_.forward(next, {.state = &again})));
  EXPECT_EQ(before.position, 6);
}

TEST_P(LanguageModelTest, RestartAtAnyLayerIsBitwiseTheSame) {
  const Tensor whole = model_.forward(ids_);
  for (int64_t cut = 0; cut <= model_.layer_count(); ++cut) {
    const Tensor first = model_.embed(ids_);
    const Prompt prompt = model_.prompt_of(first);
    const Tensor resid = model_.run_layers(first, 0, cut, nullptr, nullptr, prompt);
    const Tensor rest =
        model_.run_layers(resid, cut, model_.layer_count(), nullptr, nullptr, prompt);
    EXPECT_TRUE(at::equal(model_.unembed(rest), whole)) << cut;
  }
}

TEST_P(LanguageModelTest, RestartWithAState) {
  ModelState whole_state;
  ModelState cut_state;
  for (const Tensor& piece : ids_.split_with_sizes({7, 4}, 1)) {
    const Tensor whole = model_.forward(piece, {.state = &whole_state});
    Prompt prompt;
    prompt.start = cut_state.position;
    const Tensor first = model_.embed(piece, nullptr, prompt);
    prompt = model_.prompt_of(first);
    const Tensor resid = model_.run_layers(first, 0, 1, nullptr, &cut_state, prompt);
    const Tensor rest =
        model_.run_layers(resid, 1, model_.layer_count(), nullptr, &cut_state, prompt);
    EXPECT_TRUE(at::equal(model_.unembed(rest), whole));
  }
  EXPECT_EQ(cut_state.position, 11);
}

TEST_P(LanguageModelTest, LogitsOnlyWhereAsked) {
  const Tensor whole = model_.forward(ids_);
  const Tensor positions = at::tensor({10, 0, 4, 4}, at::kLong).view({2, 2});
  const Tensor some = model_.forward(ids_, {.logit_positions = positions});
  EXPECT_EQ(some.sizes(), at::IntArrayRef({2, 2, model_.config().vocab_size}));
  EXPECT_LT(largest_difference(some[0][0], whole[0][10]), kClose);
  EXPECT_LT(largest_difference(some[0][1], whole[0][0]), kClose);
  EXPECT_LT(largest_difference(some[1][0], whole[1][4]), kClose);
}

TEST_P(LanguageModelTest, WithLayersRunsThoseLayers) {
  const std::vector<int64_t> chosen = {model_.layer_count() - 1, 0, 0};
  const LanguageModel cut = model_.with_layers(chosen);
  EXPECT_EQ(cut.layer_count(), 3);
  EXPECT_TRUE(cut.config().layers[0] == model_.config().layers.back());
  Tensor resid = model_.embed(ids_);
  const Prompt prompt = model_.prompt_of(resid);
  for (const int64_t layer : chosen) {
    resid = model_.run_layers(resid, layer, layer + 1, nullptr, nullptr, prompt);
  }
  EXPECT_TRUE(at::equal(cut.forward(ids_), model_.unembed(resid)));
}

// GPT-2's learned positions go on where a state ended, with no layer as with some.
TEST_P(LanguageModelTest, AModelWithoutLayersGoesOnFromAState) {
  const LanguageModel cut = model_.with_layers({});
  ModelState state;
  cut.forward(ids_.slice(1, 0, 4), {.state = &state});
  EXPECT_EQ(state.position, 4);
  EXPECT_TRUE(
      at::equal(cut.forward(ids_.slice(1, 4), {.state = &state}), cut.forward(ids_).slice(1, 4)));
}

TEST_P(LanguageModelTest, HeadsWriteTheirPartOfTheOutput) {
  Recorder recorder;
  model_.forward(ids_, {.tap = &recorder});
  for (const auto& [layer, bank, z_point, out_point, map] : mixers_of(model_.config())) {
    if (has_post_norm(model_.config().layers[static_cast<size_t>(layer)])) continue;
    const Tensor z = recorder.seen.at(site_name(z_point)).flatten(2);
    Tensor sum = at::zeros({}, at::kDouble);
    for (int64_t head = 0; head < bank.count; ++head) {
      const Tensor weight = model_.head_output_weight(layer, bank.first + head);
      sum = sum + at::matmul(z.narrow(2, head * bank.width, bank.width), weight.t());
    }
    // What is left is the projection's bias: the same at every position.
    const Tensor bias = recorder.seen.at(site_name(out_point)) - bank.out_scale * sum;
    EXPECT_LT(largest_difference(bias, bias[0][0].expand_as(bias)), kClose);
  }
}

TEST_P(LanguageModelTest, LayersCanBeFinishedFromTheirHeadOutputs) {
  Recorder recorder;
  model_.forward(ids_, {.tap = &recorder});
  const Tensor some = at::tensor({7, 2}, at::kLong);
  for (int64_t layer = 0; layer < model_.layer_count(); ++layer) {
    const auto seen = [&](Site site) { return recorder.seen.at(site_name({site, layer})); };
    const LayerSpec& spec = model_.config().layers[static_cast<size_t>(layer)];
    if (!spec.mixer) {
      EXPECT_EQ(error_message<ShapeError>([&] {
                  model_.finish_layer(layer, seen(Site::ResidPre), seen(Site::ResidPre));
                }),
                "[finish_layer] layer, expected one with a mixer, got an MLP only");
      continue;
    }
    if (spec.attention) {
      EXPECT_EQ(error_message<ShapeError>(
                    [&] { model_.finish_layer(layer, seen(Site::ResidPre), seen(Site::MixerZ)); }),
                "[finish_layer] layer, expected one with one mixer, got two");
      continue;
    }
    const Tensor resid = seen(Site::ResidPre), after = seen(Site::ResidPost);
    const Tensor z = seen(layer_kind(spec) == LayerKind::Attention ? Site::Z : Site::MixerZ);
    EXPECT_LT(largest_difference(model_.finish_layer(layer, resid, z), after), kClose);
    const Tensor part =
        model_.finish_layer(layer, resid.index_select(1, some), z.index_select(1, some));
    EXPECT_LT(largest_difference(part, after.index_select(1, some)), kClose);
  }
}

TEST_P(LanguageModelTest, NarrowDtypesStayNearFloat64) {
  const Tensor exact = model_.forward(ids_);
  for (const auto& [dtype, share] :
       {std::pair{at::kFloat, 1e-4}, {at::kHalf, 0.05}, {at::kBFloat16, 0.25}}) {
    const Tensor logits = load_golden(GetParam(), dtype).forward(ids_);
    EXPECT_EQ(logits.scalar_type(), dtype);
    // These are bounds on sanity: 8 bits of mantissa through random weights, so much for three
    // layers. tests/golden's manifest has what each site may lose in float32.
    const double layers = std::max(3.0, static_cast<double>(model_.layer_count()));
    const double scale = exact.abs().max().item<double>() * layers / 3;
    EXPECT_LT(largest_difference(logits.to(at::kDouble), exact), share * scale)
        << dtype_name(dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LanguageModelTest, ::testing::ValuesIn(kGoldenModels),
                         [](const auto& info) { return info.param; });

TEST(LanguageModelErrors, IdsAndPositions) {
  const LanguageModel model = load_golden("llama");
  const auto run = [&](const Tensor& ids) {
    return error_message<ShapeError>([&] { model.forward(ids); });
  };
  EXPECT_EQ(run({}), "[forward] ids, expected int64 [batch, pos], got an undefined tensor");
  EXPECT_EQ(run(at::zeros({3}, at::kLong)),
            "[forward] ids, expected int64 [batch, pos], got int64 [3]");
  EXPECT_EQ(run(at::zeros({2, 3})),
            "[forward] ids, expected int64 [batch, pos], got float32 [2, 3]");
  EXPECT_EQ(run(at::zeros({2, 0}, at::kLong)),
            "[forward] ids, expected at least one token, got [2, 0]");
  EXPECT_EQ(run(at::full({1, 2}, 97, at::kLong)), "[forward] token id, expected 0 to 96, got 97");
  EXPECT_EQ(run(at::full({1, 2}, -1, at::kLong)), "[forward] token id, expected 0 to 96, got -1");
  const Tensor past = at::full({1, 1}, 4, at::kLong);
  EXPECT_EQ(
      error_message<ShapeError>([&] { model.forward(make_ids(1, 4), {.logit_positions = past}); }),
      "[forward] logit position, expected 0 to 3, got 4");
}

TEST(LanguageModelErrors, StatesLayersAndHeads) {
  const LanguageModel model = load_golden("bamba");
  ModelState state;
  model.forward(make_ids(2, 4), {.state = &state});
  EXPECT_EQ(error_message<ShapeError>([&] { model.forward(make_ids(1, 1), {.state = &state}); }),
            "[forward] state, expected batch 1, got 2");
  const LanguageModel cut = model.with_layers({0});
  EXPECT_EQ(error_message<ShapeError>([&] { cut.forward(make_ids(2, 1), {.state = &state}); }),
            "[forward] state, expected 1 layers, got 3");
  EXPECT_EQ(error_message<ShapeError>([&] { model.with_layers({3}); }),
            "[with_layers] layer, expected 0 to 2, got 3");
  EXPECT_EQ(error_message<ShapeError>([&] { model.head_output_weight(1, 3); }),
            "[head_output_weight] head of layer 1, expected 0 to 2, got 3");
  const Tensor resid = at::zeros({1, 2, 36}, at::kDouble);
  EXPECT_EQ(error_message<ShapeError>([&] { model.finish_layer(3, resid, resid); }),
            "[finish_layer] layer, expected 0 to 2, got 3");
  EXPECT_EQ(error_message<ShapeError>([&] { model.finish_layer(0, resid, resid); }),
            "[finish_layer] z, expected [1, 2, 72 in all], got [1, 2, 36]");
  EXPECT_EQ(error_message<ShapeError>([&] {
              model.run_layers(at::zeros({1, 2, 36}), 2, 1);
            }),
            "[run_layers] layers, expected a range within 0 to 3, got 2 to 1");
}

TEST(LanguageModelLoad, CountsTiedWeightsOnce) {
  const LanguageModel model = load_golden("llama_tied", at::kFloat);
  const auto file = SafetensorsFile::open(golden_dir("llama_tied") / "model.safetensors");
  int64_t bytes = 0;
  for (const std::string& name : file.names()) bytes += file.info(name).bytes();
  EXPECT_EQ(model.weight_bytes(), bytes);
  EXPECT_EQ(model.fingerprint().size(), 16u);
}

TEST(LanguageModelLoad, NamesWhatIsWrongWithACheckpoint) {
  const auto file = SafetensorsFile::open(golden_dir("llama") / "model.safetensors");
  std::vector<std::pair<std::string, Tensor>> weights;
  for (const std::string& key : file.names()) weights.emplace_back(key, file.tensor(key));
  const TempDir dir;
  std::filesystem::copy_file(golden_dir("llama") / "config.json", dir.path() / "config.json");
  const auto refusal = [&](const std::string& name, const Tensor& tensor) {
    auto changed = weights;
    std::erase_if(changed, [&](const auto& entry) { return entry.first == name; });
    if (tensor.defined()) changed.emplace_back(name, tensor);
    save_safetensors(dir.path() / "model.safetensors", changed);
    return error_message<CheckpointError>([&] { LanguageModel::load(dir.path()); });
  };
  const std::string at_dir = "[" + dir.path().string() + "] ";
  const std::string up_proj = "model.layers.1.mlp.up_proj.weight";
  EXPECT_EQ(refusal(up_proj, {}),
            at_dir + "tensor '" + up_proj + "', expected shape [52, 36], got no such tensor");
  EXPECT_EQ(refusal(up_proj, at::zeros({36, 52})),
            at_dir + "tensor '" + up_proj + "', expected shape [52, 36], got [36, 52]");
  EXPECT_EQ(refusal(up_proj, at::zeros({52, 36}, at::kChar)),
            at_dir + "tensor '" + up_proj + "', expected a floating-point dtype, got int8");
  EXPECT_EQ(refusal("model.layers.3.mlp.up_proj.weight", at::zeros({52, 36})),
            at_dir +
                "tensors, expected all to be read, got 1 unread: "
                "model.layers.3.mlp.up_proj.weight");
}

/// llama_tied with more tensors in its file.
LanguageModel load_tied_with(std::vector<std::pair<std::string, Tensor>> weights) {
  const auto file = SafetensorsFile::open(golden_dir("llama_tied") / "model.safetensors");
  for (const std::string& key : file.names()) weights.emplace_back(key, file.tensor(key));
  const TempDir dir;
  std::filesystem::copy_file(golden_dir("llama_tied") / "config.json", dir.path() / "config.json");
  save_safetensors(dir.path() / "model.safetensors", weights);
  return LanguageModel::load(dir.path());
}

TEST(LanguageModelLoad, PassesOverBuffersOfOlderCheckpoints) {
  const Tensor ids = make_ids(1, 4);
  const LanguageModel model =
      load_tied_with({{"model.layers.0.self_attn.rotary_emb.inv_freq", at::zeros({6})}});
  EXPECT_TRUE(at::equal(model.forward(ids), load_golden("llama_tied", at::kFloat).forward(ids)));
}

// As transformers does: the same head is the embedding, another one is a head of its own.
TEST(LanguageModelLoad, ATiedModelUsesAHeadOfItsOwn) {
  const Tensor ids = make_ids(1, 4);
  const auto file = SafetensorsFile::open(golden_dir("llama_tied") / "model.safetensors");
  const Tensor embed = file.tensor("model.embed_tokens.weight");
  const LanguageModel tied = load_golden("llama_tied", at::kFloat);
  const LanguageModel same = load_tied_with({{"lm_head.weight", embed.clone()}});
  EXPECT_TRUE(at::equal(same.forward(ids), tied.forward(ids)));
  EXPECT_EQ(same.weight_bytes(), tied.weight_bytes());
  const LanguageModel own = load_tied_with({{"lm_head.weight", -2 * embed}});
  EXPECT_LT(largest_difference(own.forward(ids), -2 * tied.forward(ids)), 1e-5);
  EXPECT_FALSE(own.config().tied_embeddings);
}

// A model built from tensors holds those very tensors, so that they can be trained in place.
TEST(LanguageModelBuild, HoldsTheTensorsItIsGiven) {
  for (const std::string& name : kGoldenModels) {
    const auto file = SafetensorsFile::open(golden_dir(name) / "model.safetensors");
    std::map<std::string, Tensor> weights;
    for (const std::string& key : file.names()) weights[key] = file.tensor(key).clone();
    const ModelConfig config = load_golden(name).config();
    const LanguageModel model =
        LanguageModel::build(config, WeightScope::from_map(weights, at::kFloat, at::kCPU));
    const Tensor ids = make_ids(1, 5);
    for (auto& [key, tensor] : weights) {
      const Tensor before = model.forward(ids);
      const Tensor kept = tensor.clone();
      tensor.add_(at::rand_like(tensor));
      EXPECT_FALSE(at::equal(model.forward(ids), before)) << name << " " << key;
      tensor.copy_(kept);
    }
  }
}

}  // namespace
}  // namespace headlens
