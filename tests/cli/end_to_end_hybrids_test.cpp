// headlens/tests: layers of two mixers and attention layers of hybrids, as the commands see them.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cli/command_tools.h"
#include "headlens/core/safetensors.h"
#include "headlens/hooks/hook_set.h"
#include "headlens/model/language_model.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/scoring.h"
#include "headlens/tasks/task.h"

namespace headlens {
namespace {

using testing::Called;
using testing::headlens;
using testing::Json;
using testing::model_with_words;
using testing::read_file;
using testing::TempDir;
using testing::word_task;

/// Random weights: attention within a shared block (Zamba2), beside the mixer (Falcon-H1), in
/// layers of its own (Jamba).
class HybridCommands : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, HybridCommands, ::testing::Values("zamba2", "falcon_h1", "jamba"));

struct Scored {
  std::vector<double> logprob, correct;
};

/// The task with the segments hidden from the last prompt token and what follows in the maps of
/// these sites, entry by entry, one example a forward.
Scored with_hidden_segments(const LanguageModel& model,
                            const std::vector<TokenizedExample>& examples,
                            const std::vector<std::string>& sites) {
  Scored scored;
  for (const TokenizedExample& example : examples) {
    HookSet hooks(model.config());
    for (const std::string& site : sites) {
      hooks.add(site, [&](TapPoint, Tensor map) {  // [row, head, q, k]
        map = map.clone();
        for (const Segment& s : example.segments) {
          map.slice(2, std::ssize(example.prompt_ids) - 1).slice(3, s.start, s.end + 1).zero_();
        }
        return map;
      });
    }
    const EvalResult found =
        evaluate(model, {example}, {16384, sites.empty() ? nullptr : &hooks, {}});
    scored.logprob.push_back(found.logprob[0]);
    scored.correct.push_back(found.correct[0]);
  }
  return scored;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

TEST_P(HybridCommands, C5CutsTheMapsOfEveryAttentionLayer) {
  const TempDir dir;
  const auto directory = model_with_words(dir, GetParam());
  const std::string task = "jsonl:" + word_task(dir, 12).string();
  const Called called =
      headlens({"reproduce", "C5", "--models", directory.string(), "--retrieval", task, "--device",
                "cpu", "--dtype", "float64", "--quiet", "--json"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json outcome = called.json()["claims"][0]["outcomes"][0];
  ASSERT_NE(outcome["verdict"], "not run") << outcome["why"];

  const LanguageModel model = LanguageModel::load(directory, {.dtype = at::kDouble});
  const auto examples = tokenize(make_task(task, 0), Tokenizer::load(directory));
  const Scored base = with_hidden_segments(model, examples, {});
  const Scored attention = with_hidden_segments(model, examples, {"blocks.*.attn.hook_pattern"});
  const Scored ssm = with_hidden_segments(model, examples, {"blocks.*.mixer.hook_map"});
  const Json& figures = outcome["figures"];
  EXPECT_EQ(figures[0]["value"], mean(base.correct));
  EXPECT_EQ(figures[1]["value"], mean(attention.correct));
  EXPECT_EQ(figures[2]["value"], mean(ssm.correct));
  const double lost = mean(base.logprob) - mean(attention.logprob);
  const double other = mean(base.logprob) - mean(ssm.logprob);
  EXPECT_GT(std::abs(lost), 1e-6);
  EXPECT_GT(std::abs(other), 1e-6);
  for (const Json& figure : figures) {
    if (figure["what"] != "attention's share of both drops, log-probability") continue;
    EXPECT_NEAR(figure["value"].get<double>(), lost / (lost + other), 1e-9);
  }
}

TEST_P(HybridCommands, MapsOfEveryAttentionLayerComeOut) {
  const TempDir dir;
  const auto directory = model_with_words(dir, GetParam());
  const LanguageModel model = LanguageModel::load(directory, {.dtype = at::kDouble});
  std::map<std::string, Tensor> patterns;
  HookSet hooks(model.config());
  hooks.add("blocks.*.attn.hook_pattern", [&](TapPoint point, Tensor value) {
    return patterns[std::to_string(point.layer)] = value;
  });
  const std::string text = "w3 w14 w15 w9 w26 w5";
  const std::vector<int64_t> ids = Tokenizer::load(directory).encode(text);
  model.forward(at::tensor(ids, at::kLong).unsqueeze(0), {.tap = &hooks});
  std::string heads;
  size_t attention_heads = 0;
  for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
    for (const HeadBank& bank : head_banks(model.config().layers[static_cast<size_t>(layer)])) {
      if (bank.kind != LayerKind::Attention) continue;
      attention_heads += static_cast<size_t>(bank.count);
      for (int64_t h = bank.first; h < bank.first + bank.count; ++h) {
        heads += (heads.empty() ? "" : ",") + std::to_string(layer) + "." + std::to_string(h);
      }
    }
  }
  const std::string out = (dir.path() / "maps.safetensors").string();
  const Called called =
      headlens({"map", directory.string(), "--text", text, "--heads", heads, "--device", "cpu",
                "--dtype", "float64", "--quiet", "--json", "--out", out});
  ASSERT_EQ(called.status, 0) << called.err;
  size_t compared = 0;
  const SafetensorsFile file = SafetensorsFile::open(out);
  const Json listing = called.json();
  for (const Json& listed : listing["maps"]) {
    const int64_t layer = listed["layer"], head = listed["head"];
    const Tensor map = file.tensor(listed["name"].get<std::string>());
    const auto& spec = model.config().layers[static_cast<size_t>(layer)];
    const int64_t own = head - bank_of(spec, head).first;
    const Tensor expected = patterns.at(std::to_string(layer))[0][own];
    EXPECT_LT((map.to(at::kDouble).view_as(expected) - expected).abs().max().item<double>(), 1e-6)
        << listed["name"];
    ++compared;
  }
  EXPECT_EQ(compared, attention_heads);
  EXPECT_GT(attention_heads, 3U);
}

TEST_P(HybridCommands, CompareHasEveryAttentionHead) {
  const TempDir dir;
  const auto directory = model_with_words(dir, GetParam());
  const std::string task = "jsonl:" + word_task(dir, 12).string();
  const std::string out = (dir.path() / "compared").string();
  const Called called = headlens({"compare", directory.string(), directory.string(), "--task", task,
                                  "--no-search", "--device", "cpu", "--quiet", "--out", out});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json compared = Json::parse(read_file(out + "/compare.json"));
  const LanguageModel model = LanguageModel::load(directory);
  std::vector<std::pair<int64_t, int64_t>> expected, found;
  for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
    for (const HeadBank& bank : head_banks(model.config().layers[static_cast<size_t>(layer)])) {
      for (int64_t h = bank.first; bank.kind == LayerKind::Attention && h < bank.first + bank.count;
           ++h) {
        expected.emplace_back(layer, h);
      }
    }
  }
  for (const Json& head : compared["a"]["heads"]) {
    if (head["kind"] != "attention") continue;
    found.emplace_back(head["layer"].get<int64_t>(), head["head"].get<int64_t>());
    EXPECT_TRUE(head.contains("entropy_norm")) << head.dump();
  }
  EXPECT_EQ(found, expected);
}

}  // namespace
}  // namespace headlens
