// headlens/tests: every family against what transformers computes, tensor by tensor.
#include <gtest/gtest.h>

#include "core/json_fields.h"
#include "headlens/core/safetensors.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::golden_dir;
using testing::largest_difference;
using testing::load_golden;
using testing::Recorder;

const nlohmann::json& manifest() {
  static const nlohmann::json all = read_json_file(golden_dir("manifest.json"));
  return all;
}

/// Figures of one golden model.
const nlohmann::json& golden_of(const std::string& name) {
  return manifest()["families"][name];
}

/// Every model of the manifest: each family and its variants.
std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& [name, figures] : manifest()["families"].items()) names.push_back(name);
  return names;
}

SafetensorsFile open_golden(const std::string& name, const std::string& file) {
  return SafetensorsFile::open(golden_dir(name) / file);
}

class GoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, EveryTensorInFloat32) {
  const SafetensorsFile golden = open_golden(GetParam(), "golden.safetensors");
  Recorder recorder;
  load_golden(GetParam(), at::kFloat).forward(golden.tensor("input_ids"), {.tap = &recorder});
  for (const auto& [name, figures] : golden_of(GetParam())["tensors"].items()) {
    ASSERT_TRUE(recorder.seen.contains(name)) << name;
    // atol: ten times what transformers itself loses in float32.
    EXPECT_LE(largest_difference(recorder.seen[name], golden.tensor(name)),
              figures["atol"].get<double>())
        << name;
  }
}

TEST_P(GoldenTest, EveryTensorInFloat64) {
  const SafetensorsFile golden = open_golden(GetParam(), "golden.safetensors");
  Recorder recorder;
  load_golden(GetParam()).forward(golden.tensor("input_ids"), {.tap = &recorder});
  for (const auto& [name, figures] : golden_of(GetParam())["tensors"].items()) {
    // The golden is a float64 pass whose values were rounded to float32.
    const double rounding = 6e-8 * figures["max"].get<double>();
    EXPECT_LE(largest_difference(recorder.seen[name], golden.tensor(name)), 2 * rounding) << name;
  }
}

TEST_P(GoldenTest, DecodingStepByStep) {
  if (golden_of(GetParam())["decode"].is_null()) {
    GTEST_SKIP() << GetParam() << ": a longer text changes what came before it";
  }
  const SafetensorsFile golden = open_golden(GetParam(), "decode.safetensors");
  const Tensor expected = golden.tensor("step_logits");  // [batch, step, vocab]
  const Tensor fed = golden.tensor("new_ids");
  const LanguageModel model = load_golden(GetParam(), at::kFloat);
  const double atol = golden_of(GetParam())["decode"]["atol"].get<double>();
  ModelState state;
  Tensor logits = model.forward(golden.tensor("input_ids"), {.state = &state});
  for (int64_t step = 0; step < expected.size(1); ++step) {
    EXPECT_LE(largest_difference(logits.select(1, -1), expected.select(1, step)), atol) << step;
    EXPECT_TRUE(at::equal(logits.select(1, -1).argmax(-1), fed.select(1, step)));
    logits = model.forward(fed.narrow(1, step, 1), {.state = &state});
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, ::testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

// The config.json of transformers 4, published layouts and the authors' own say the same model.
TEST(GoldenOtherLayoutsTest, EqualLogits) {
  int compared = 0;
  for (const std::string& name : golden_names()) {
    auto others = golden_of(name)["others"].get<std::vector<std::string>>();
    if (golden_of(name)["v4"].get<bool>()) others.push_back(name + "_v4");
    if (others.empty()) continue;
    const Tensor ids = open_golden(name, "golden.safetensors").tensor("input_ids");
    const Tensor logits = load_golden(name, at::kFloat).forward(ids);
    for (const std::string& other : others) {
      EXPECT_TRUE(at::equal(logits, load_golden(other, at::kFloat).forward(ids))) << other;
      ++compared;
    }
  }
  EXPECT_GE(compared, 20);
}

// Rows of unlike lengths, padded on the left, against each row alone.
TEST(GoldenPaddedTest, EachRowAsAlone) {
  int compared = 0;
  for (const std::string& name : golden_names()) {
    const auto padded = golden_of(name).find("padded");
    if (padded == golden_of(name).end()) continue;
    const SafetensorsFile golden = open_golden(name, "padded.safetensors");
    const Tensor ids = golden.tensor("input_ids"), first = golden.tensor("first");
    const LanguageModel model = load_golden(name, at::kFloat);
    const Tensor logits = model.forward(ids, {.first = first});
    for (int64_t row = 0; row < ids.size(0); ++row) {
      const std::string key = "logits." + std::to_string(row);
      const Tensor alone = golden.tensor(key);  // [1, length, vocab]
      const Tensor ours = logits.narrow(0, row, 1).slice(1, first[row].item<int64_t>());
      EXPECT_LE(largest_difference(ours, alone), (*padded)[key]["atol"].get<double>())
          << name << " " << key;
      ++compared;
    }
  }
  EXPECT_GE(compared, 18);
}

}  // namespace
}  // namespace headlens
