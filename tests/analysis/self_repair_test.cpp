// headlens/tests: direct effects against writes taken out of the residual one at a time.
#include "headlens/analysis/self_repair.h"

#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/hooks/hook_set.h"

namespace headlens {
namespace {

using testing::Editor;
using testing::error_message;
using testing::load_model;
using testing::objective_of;
using testing::place_of;
using testing::unlike_examples;
using testing::Watcher;

/// kFamilies without those that have a norm between mixer and residual.
const std::vector<std::string> kDirectFamilies = {
    "llama",    "mamba", "falcon_mamba", "mamba2", "llamba",    "bamba", "nemotron_h",
    "gpt_neox", "gpt2",  "qwen3",        "jamba",  "falcon_h1", "zamba2"};

std::vector<AnswerTokens> some_answers() {
  std::vector<AnswerTokens> answers;
  for (const TokenizedExample& example : unlike_examples()) {
    AnswerTokens tokens{example.choice_ids[static_cast<size_t>(example.answer)][0], {}};
    for (const auto& choice : example.choice_ids) {
      if (choice[0] != tokens.answer) tokens.others.push_back(choice[0]);
    }
    answers.push_back(tokens);
  }
  return answers;
}

Tensor ids_of(const TokenizedExample& example) {
  return at::tensor(example.prompt_ids, at::kLong).unsqueeze(0);
}

double difference_of(const Tensor& logits, const AnswerTokens& answer) {
  return (logits[answer.answer] - logits.index_select(0, at::tensor(answer.others)).mean())
      .item<double>();
}

/// One run of one example, with heads cut or not.
struct OneRun {
  Watcher seen;
  Tensor last;  // the residual at the last token, [1, d_model]
  double difference = 0;
};

OneRun run_once(const LanguageModel& model, const TokenizedExample& example,
                const AnswerTokens& answer, const HeadId* cut) {
  OneRun run;
  Tap* tap = &run.seen;
  InterventionPtr zero;
  std::unique_ptr<TapChain> both;
  if (cut != nullptr) {
    zero = zero_heads(model.config(), {{cut->layer, cut->first, cut->last}});
    both = std::make_unique<TapChain>(std::vector<Tap*>{zero.get(), &run.seen});
    tap = both.get();
  }
  const Tensor logits = model.forward(ids_of(example), {.tap = tap});
  run.difference = difference_of(logits[0][-1], answer);
  const std::string name = "blocks." + std::to_string(model.layer_count() - 1);
  run.last = run.seen[name + ".hook_resid_post"][0].slice(0, -1);
  return run;
}

/// The logit difference of a residual with the final norm's scale of another.
double frozen_difference(const LanguageModel& model, const Tensor& resid, const Tensor& scale,
                         const AnswerTokens& answer) {
  Editor freeze({Site::FinalScale, -1}, [&](const Tensor&) { return scale; });
  return difference_of(model.unembed(resid, &freeze)[0], answer);
}

/// What a head writes at the last token: its layer run from where it stands with the head's output
/// and without it.
Tensor write_of(const LanguageModel& model, const OneRun& run, const HeadId& head) {
  const auto [point, own] = place_of(model.config(), head);
  const TapPoint out{point.site == Site::Z ? Site::AttnOut : Site::MixerOut, head.layer};
  const std::string block = "blocks." + std::to_string(head.layer);
  const Prompt prompt = model.prompt_of(run.seen["hook_embed"]);
  const auto output = [&](bool with) {
    Watcher seen;
    const Tensor z = run.seen[site_name(point)];
    Editor edit(point, [&, own = own](const Tensor&) {
      Tensor changed = z.clone();
      if (!with) changed.slice(2, own.first, own.last + 1).zero_();
      return changed;
    });
    TapChain taps({&edit, &seen});
    model.run_layers(run.seen[block + ".hook_resid_pre"], head.layer, head.layer + 1, &taps,
                     nullptr, prompt);
    return seen[site_name(out)][0].slice(0, -1);
  };
  return output(true) - output(false);
}

class SelfRepairTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, SelfRepairTest, ::testing::ValuesIn(kDirectFamilies));

TEST_P(SelfRepairTest, EqualsWritesTakenOutOneByOne) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  const auto answers = some_answers();
  RepairOptions options;
  options.mamba1_groups = 3;
  options.top = 1000;
  const HeadId cut = all_heads(model.config(), 3)[1];
  const SelfRepair found =
      self_repair(model, *objective_of(examples), answers, {cut}, options).front();
  EXPECT_EQ(found.head, cut);
  std::vector<HeadId> heads = all_heads(model.config(), 3);
  std::map<size_t, double> changes;
  double total = 0, own = 0, others = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    const double n = static_cast<double>(examples.size());
    const OneRun before = run_once(model, examples[i], answers[i], nullptr),
                 after = run_once(model, examples[i], answers[i], &cut);
    const Tensor scale = before.seen["ln_final.hook_scale"][0].slice(0, -1);
    const auto effect = [&](const OneRun& run, const HeadId& head) {
      const Tensor without = before.last - write_of(model, run, head);
      return frozen_difference(model, before.last, scale, answers[i]) -
             frozen_difference(model, without, scale, answers[i]);
    };
    total += (after.difference - before.difference) / n;
    for (size_t h = 0; h < heads.size(); ++h) {
      const LayerSpec& layer = model.config().layers[static_cast<size_t>(heads[h].layer)];
      const bool writes = !(layer.wiring == Wiring::SharedBlock &&
                            bank_of(layer, heads[h].first).kind == LayerKind::Attention);
      if (heads[h].layer < cut.layer || !writes) continue;
      const double change = (effect(after, heads[h]) - effect(before, heads[h])) / n;
      (heads[h] == cut ? own : others) += change;
      changes[h] += change;
    }
  }
  // float64; logit differences of 20
  EXPECT_NEAR(found.total.value, total, 1e-11);
  EXPECT_NEAR(found.own.value, own, 1e-11);
  EXPECT_NEAR(found.heads.value, others, 1e-11);
  EXPECT_NEAR(found.own.value + found.heads.value + found.mlps.value + found.norm.value, total,
              1e-11);
  EXPECT_GT(std::abs(own), 1e-6);
  for (const HeadChange& change : found.top) {
    const auto at = std::find(heads.begin(), heads.end(), change.head) - heads.begin();
    EXPECT_NEAR(change.change.value, changes[static_cast<size_t>(at)], 1e-11);
  }
  EXPECT_EQ(found.top.size(), heads.size() - 1);  // the cut head is in the first layer
}

/// The parts of a change add up to it however the cut is made, and whatever the batches are.
TEST_P(SelfRepairTest, PartsAddUpInEveryMode) {
  const LanguageModel model = load_model(GetParam());
  const std::vector<HeadId> all = all_heads(model.config(), 3);
  const std::vector<HeadId> heads = {all[0], all[all.size() / 2], all.back()};
  for (const auto mode : {AblationMode::Mean, AblationMode::Resample}) {
    RepairOptions options;
    options.mode = mode;
    options.placement = Placement::PreNorm;
    const auto run = [&](int64_t tokens) {
      return self_repair(model, *objective_of(unlike_examples(), tokens), some_answers(), heads,
                         options);
    };
    const auto large = run(4096), small = run(1);
    for (size_t h = 0; h < heads.size(); ++h) {
      const SelfRepair& r = large[h];
      EXPECT_NEAR(r.total.value, small[h].total.value, 1e-11);
      EXPECT_NEAR(r.heads.high, small[h].heads.high, 1e-11);
      EXPECT_NE(r.total.value, 0);
      // All that writes to the residual is a head or an MLP: with the norm they make up the whole.
      EXPECT_NEAR(r.own.value + r.heads.value + r.mlps.value + r.norm.value, r.total.value, 1e-11);
    }
  }
}

TEST(SelfRepair, RefusesWhatItCannotDo) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  auto answers = some_answers();
  const HeadId head{0, 0, 0};
  EXPECT_EQ(error_message<HookError>([&] {
              self_repair(model, *objective, answers, {{0, 9, 9}});
            }),
            "[ablate] head, expected 0..3 in layer 0, got 9");
  EXPECT_EQ(error_message<HookError>(
                [&] { self_repair(load_model("olmo2"), *objective, answers, {head}); }),
            "[self_repair] layer 0, expected heads that write straight to the residual, got a norm "
            "between");
  RepairOptions scaled;
  scaled.mode = AblationMode::Scale;
  EXPECT_EQ(
      error_message<UsageError>([&] { self_repair(model, *objective, answers, {head}, scaled); }),
      "[ablate] mode, expected zero, mean or resample, got scale");
  answers[2].others = {97};
  EXPECT_EQ(error_message<ShapeError>([&] { self_repair(model, *objective, answers, {head}); }),
            "[self_repair] answer tokens of example 2, expected 0 to 96, got another");
  answers[2].others = {};
  EXPECT_EQ(error_message<TaskError>([&] { self_repair(model, *objective, answers, {head}); }),
            "[self_repair] example 2, expected another answer that begins with another token, got "
            "none");
  answers.pop_back();
  EXPECT_EQ(error_message<ShapeError>([&] { self_repair(model, *objective, answers, {head}); }),
            "[self_repair] answers, expected 6, one for each example, got 5");
}

}  // namespace
}  // namespace headlens
