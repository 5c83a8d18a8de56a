// headlens/tests: heads that are cut stay cut while a text is generated.
#include <gtest/gtest.h>

#include "headlens/hooks/hook_set.h"
#include "headlens/hooks/interventions.h"
#include "headlens/model/generate.h"
#include "hooks/hook_tools.h"

namespace headlens {
namespace {

using testing::load_model;
using testing::make_ids;

constexpr int64_t kSteps = 6;

std::vector<int64_t> list_of(const Tensor& ids) {
  return {ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.numel()};
}

/// One head of each layer that has some.
HeadList one_head_a_layer(const ModelConfig& config) {
  HeadList heads;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    const int64_t count = head_count(config.layers[static_cast<size_t>(layer)]);
    if (count > 0) heads.push_back(HeadRef{layer, layer % count});
  }
  return heads;
}

class GenerationProperty : public ::testing::TestWithParam<std::string> {};

TEST_P(GenerationProperty, AblatedHeadsStayAblated) {
  const LanguageModel model = load_model(GetParam());
  // Of unequal lengths, so that one is padded.
  const Tensor ids = make_ids(2, 9);
  const std::vector<std::vector<int64_t>> prompts = {list_of(ids[0]),
                                                     list_of(ids[1].slice(0, 0, 5))};
  for (const Placement placement : {Placement::PostNorm, Placement::PreNorm}) {
    const auto make = [&] {
      return zero_heads(model.config(), one_head_a_layer(model.config()), {.placement = placement});
    };
    HookSet hooks(model.config());
    hooks.add(make());
    GenerateOptions options;
    options.max_new_tokens = kSteps, options.ignore_end_tokens = true, options.tap = &hooks;
    const auto cut = generate(model, prompts, options);
    hooks.check_all_fired();
    options.tap = nullptr;
    EXPECT_NE(cut[0].logprobs, generate(model, prompts, options)[0].logprobs);
    for (size_t i = 0; i < prompts.size(); ++i) {
      std::vector<int64_t> text = prompts[i];
      for (int64_t step = 0; step < kSteps; ++step) {
        const auto same_cut = make();
        const Tensor logits =
            model.forward(at::tensor(text, at::kLong).unsqueeze(0), {.tap = same_cut.get()})[0][-1];
        text.push_back(logits.argmax(-1).item<int64_t>());
        const auto at = static_cast<size_t>(step);
        EXPECT_EQ(cut[i].tokens[at], text.back()) << i << " " << step;
        EXPECT_NEAR(cut[i].logprobs[at], logits.log_softmax(-1)[text.back()].item<double>(), 1e-10);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GenerationProperty, ::testing::ValuesIn(testing::kFamilies),
                         [](const auto& row) { return row.param; });

}  // namespace
}  // namespace headlens
