// headlens/tests: every family against what transformers computes, tensor by tensor.
#include <gtest/gtest.h>

#include "core/json_fields.h"
#include "headlens/core/safetensors.h"
#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::golden_dir;
using testing::kGoldenModels;
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

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, ::testing::ValuesIn(kGoldenModels),
                         [](const auto& info) { return info.param; });

// The config.json of transformers 4 says the same model.
TEST(GoldenOldDialectTest, EqualLogits) {
  for (const std::string name : {"llama", "mamba2", "bamba"}) {
    const SafetensorsFile golden = open_golden(name, "golden.safetensors");
    const Tensor ids = golden.tensor("input_ids");
    const Tensor logits = load_golden(name + "_v4", at::kFloat).forward(ids);
    EXPECT_TRUE(at::equal(logits, load_golden(name, at::kFloat).forward(ids))) << name;
  }
}

}  // namespace
}  // namespace headlens
