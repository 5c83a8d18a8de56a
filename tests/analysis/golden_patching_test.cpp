// headlens/tests: patched runs against transformers with Python forward hooks.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "analysis_tools.h"
#include "headlens/analysis/patching.h"

namespace headlens {
namespace {

using nlohmann::json;
using testing::load_model;
using testing::objective_of;

json expected() {
  std::ifstream file(testing::model_dir("patching") / "expected.json");
  return json::parse(file);
}

std::unique_ptr<Objective> objective(const json& golden, const char* run, const char* answer) {
  std::vector<TokenizedExample> examples;
  for (size_t e = 0; e < golden[run].size(); ++e) {
    TokenizedExample& example = examples.emplace_back();
    example.prompt_ids = golden[run][e].get<std::vector<int64_t>>();
    example.choice_ids = {{golden["right"][e].get<int64_t>()}, {golden["wrong"][e].get<int64_t>()}};
    example.answer = std::string(answer) == "right" ? 0 : 1;
  }
  return objective_of(examples);
}

PatchSite site_of(const std::string& name) {
  for (const PatchSite site :
       {PatchSite::Resid, PatchSite::MixerOut, PatchSite::MlpOut, PatchSite::Z}) {
    if (name == patch_site_name(site)) return site;
  }
  ADD_FAILURE() << name;
  return PatchSite::Resid;
}

const std::vector<PositionGroup>& groups() {
  static const std::vector<PositionGroup> all = {
      {"changed", {{2, 3, 6}, {2, 3, 6}}}, {"last", {{8}, {8}}}, {"all", {}, /*everywhere=*/true}};
  return all;
}

/// All cells of one site and direction, found in one call.
Patching patch(const LanguageModel& model, const json& golden, const json& cells,
               const std::string& site, const std::string& direction) {
  PatchOptions options;
  options.site = site_of(site);
  options.direction = direction == "noising" ? PatchDirection::Noising : PatchDirection::Denoising;
  std::set<std::pair<int64_t, int64_t>> heads;
  for (const json& cell : cells) {
    if (cell["site"] != site || cell["head"] < 0) continue;
    heads.emplace(cell["layer"].get<int64_t>(), cell["head"].get<int64_t>());
  }
  for (const auto& [layer, head] : heads) options.heads.push_back({layer, head, head});
  const auto clean = objective(golden, "clean", "right");
  const auto corrupted = objective(golden, "corrupted", "wrong");
  return patch_activations(model, *clean, *corrupted, groups(), options);
}

class GoldenPatching : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, GoldenPatching, ::testing::Values("llama", "mamba2", "jamba"));

TEST_P(GoldenPatching, EqualsTransformersWithHooks) {
  const json golden = expected();
  const json& cells = golden["models"][GetParam()];
  const LanguageModel model = load_model(GetParam());
  size_t compared = 0;
  for (const std::string site : {"resid", "attn_out", "mlp_out", "z"}) {
    for (const std::string direction : {"denoising", "noising"}) {
      if (site == "mlp_out" && GetParam() == "mamba2") continue;
      const Patching found = patch(model, golden, cells, site, direction);
      for (const json& want : cells) {
        if (want["site"] != site || want["direction"] != direction) continue;
        for (const PatchCell& cell : found.cells) {
          const bool own = cell.layer == want["layer"] &&
                           groups()[cell.positions].name == want["positions"] &&
                           (cell.head ? cell.head->first : -1) == want["head"];
          if (!own) continue;
          ++compared;
          // transformers keeps norms of Mamba-2 and softmax in float32 even in a float64 model.
          EXPECT_NEAR(cell.patched.logprob.value, want["logprob"].get<double>(), 1e-5) << want;
          EXPECT_NEAR(cell.patched.difference.value, want["difference"].get<double>(), 1e-5)
              << want;
        }
      }
    }
  }
  EXPECT_EQ(compared, cells.size());
}

}  // namespace
}  // namespace headlens
