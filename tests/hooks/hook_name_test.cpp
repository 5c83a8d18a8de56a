// headlens/tests: names of sites: canonical, aliases, globs, and the errors for those that name
// nothing.
#include "headlens/hooks/hook_name.h"

#include <gtest/gtest.h>

#include "hooks/hook_tools.h"

namespace headlens {
namespace {

using testing::config_of;
using testing::kFamilies;
using testing::message_of;

std::string only_name(const std::string& pattern, const ModelConfig& config) {
  const std::vector<TapPoint> points = resolve_sites(pattern, config);
  return points.size() == 1 ? site_name(points[0]) : "not one point";
}

std::string error_of(const std::string& pattern, const std::string& model) {
  return message_of<HookError>([&] { resolve_names(pattern, config_of(model)); });
}

class HookNameFamilyTest : public ::testing::TestWithParam<std::string> {};

TEST_P(HookNameFamilyTest, EveryCanonicalNameNamesItself) {
  const ModelConfig config = config_of(GetParam());
  for (const SiteInfo& info : sites_of(config)) {
    const NamedSite expected{info.name, info.point, SiteView::Whole, 0};
    EXPECT_EQ(resolve_names(info.name, config), std::vector<NamedSite>{expected}) << info.name;
  }
}

TEST_P(HookNameFamilyTest, StarNamesAllSitesInFiringOrder) {
  const ModelConfig config = config_of(GetParam());
  std::vector<TapPoint> all;
  for (const SiteInfo& info : sites_of(config)) all.push_back(info.point);
  EXPECT_EQ(resolve_sites("*", config), all);
}

INSTANTIATE_TEST_SUITE_P(Families, HookNameFamilyTest, ::testing::ValuesIn(kFamilies),
                         [](const auto& info) { return info.param; });

using AliasCase = std::pair<std::string, std::string>;

void expect_aliases(const std::string& model, const std::vector<AliasCase>& cases) {
  const ModelConfig config = config_of(model);
  for (const auto& [alias, canonical] : cases) {
    EXPECT_EQ(only_name(alias, config), canonical) << alias;
    EXPECT_EQ(resolve_names(alias, config)[0].name, alias);
  }
}

// The names of TransformerLens's HookedTransformer that are not ours already, and of its bridge.
TEST(HookNameTest, TransformerLensAttention) {
  const std::string b = "blocks.1.";
  expect_aliases("llama", {{"embed.hook_out", "hook_embed"},
                           {"unembed.hook_in", "ln_final.hook_normalized"},
                           {"unembed.hook_out", "logits"},
                           {b + "hook_in", b + "hook_resid_pre"},
                           {b + "hook_out", b + "hook_resid_post"},
                           {b + "ln2.hook_in", b + "hook_resid_mid"},
                           {b + "hook_mlp_in", b + "hook_resid_mid"},
                           {b + "hook_attn_in", b + "hook_resid_pre"},
                           {b + "hook_q_input", b + "hook_resid_pre"},
                           {b + "hook_k_input", b + "hook_resid_pre"},
                           {b + "hook_v_input", b + "hook_resid_pre"},
                           {b + "attn.q.hook_out", b + "attn.hook_q"},
                           {b + "attn.k.hook_out", b + "attn.hook_k"},
                           {b + "attn.v.hook_out", b + "attn.hook_v"},
                           {b + "attn.o.hook_in", b + "attn.hook_z"},
                           {b + "attn.hook_out", b + "hook_attn_out"},
                           {b + "mlp.gate.hook_out", b + "mlp.hook_pre"},
                           {b + "mlp.in.hook_out", b + "mlp.hook_pre_linear"},
                           {b + "mlp.out.hook_in", b + "mlp.hook_post"}});
}

TEST(HookNameTest, TransformerLensAttentionNamesThatAreOurs) {
  const ModelConfig config = config_of("llama");
  for (const std::string name :
       {"hook_resid_pre",      "hook_resid_mid",   "hook_resid_post",     "hook_attn_out",
        "hook_mlp_out",        "ln1.hook_scale",   "ln1.hook_normalized", "ln2.hook_scale",
        "ln2.hook_normalized", "attn.hook_q",      "attn.hook_k",         "attn.hook_v",
        "attn.hook_z",         "attn.hook_rot_q",  "attn.hook_rot_k",     "attn.hook_attn_scores",
        "attn.hook_pattern",   "attn.hook_result", "mlp.hook_pre",        "mlp.hook_pre_linear",
        "mlp.hook_post"}) {
    EXPECT_EQ(only_name("blocks.2." + name, config), "blocks.2." + name);
  }
}

TEST(HookNameTest, TransformerLensStateSpace) {
  const std::string m = "blocks.0.mixer.";
  for (const std::string model : {"mamba", "mamba2"}) {
    expect_aliases(model, {{"blocks.0.hook_mixer_out", m + "hook_out"},
                           {"blocks.0.hook_mixer_in", "blocks.0.ln1.hook_normalized"},
                           {m + "in_proj.hook_out", m + "hook_in_proj"},
                           {m + "conv1d.hook_out", m + "hook_conv"},
                           {m + "hook_ssm_state", m + "hook_state"},
                           {m + "out_proj.hook_in", m + "hook_z"},
                           {m + "out_proj.hook_out", m + "hook_out"}});
  }
  expect_aliases("mamba", {{m + "dt_proj.hook_out", m + "hook_dt"},
                           {m + "hook_dt_proj", m + "hook_dt"},
                           {m + "hook_ssm_dt", m + "hook_dt"}});
  expect_aliases("mamba2", {{m + "inner_norm.hook_in", m + "hook_ssm_out"},
                            {m + "inner_norm.hook_gate", m + "hook_gate"},
                            {m + "inner_norm.hook_out", m + "hook_z"},
                            {m + "hook_inner_norm", m + "hook_z"}});
}

TEST(HookNameTest, MambaLens) {
  const std::string b = "blocks.2.", m = b + "mixer.";
  expect_aliases("mamba", {{"hook_norm", "ln_final.hook_normalized"},
                           {"hook_logits", "logits"},
                           {b + "hook_layer_input", b + "hook_resid_pre"},
                           {b + "hook_normalized_input", b + "ln1.hook_normalized"},
                           {b + "hook_skip", m + "hook_gate"},
                           {b + "hook_in_proj", m + "hook_conv_in"},
                           {b + "hook_conv", m + "hook_conv"},
                           {b + "hook_ssm_input", m + "hook_ssm_input"},
                           {b + "hook_h_start", m + "hook_state_start"},
                           {b + "hook_delta_1", m + "hook_dt_lowrank"},
                           {b + "hook_delta_2", m + "hook_dt"},
                           {b + "hook_delta", m + "hook_dt"},
                           {b + "hook_A", m + "hook_A"},
                           {b + "hook_A_bar", m + "hook_A_bar"},
                           {b + "hook_B", m + "hook_B"},
                           {b + "hook_B_bar", m + "hook_B_bar"},
                           {b + "hook_C", m + "hook_C"},
                           {b + "hook_h.7", m + "hook_state"},
                           {b + "hook_y", m + "hook_y"},
                           {b + "hook_ssm_output", m + "hook_ssm_out"},
                           {b + "hook_after_skip", m + "hook_z"},
                           {b + "hook_out_proj", m + "hook_out"}});
  for (const std::string name :
       {"hook_embed", "blocks.0.hook_resid_pre", "blocks.0.hook_resid_post"}) {
    EXPECT_EQ(only_name(name, config_of("mamba")), name);
  }
}

TEST(HookNameTest, PositionOfAState) {
  const NamedSite named = resolve_names("blocks.1.hook_h.12", config_of("mamba")).at(0);
  EXPECT_EQ(named.view, SiteView::Position);
  EXPECT_EQ(named.extra, 12);
  EXPECT_EQ(resolve_names("blocks.*.hook_h.0", config_of("mamba")).size(), 3u);
}

TEST(HookNameTest, HeadCopiesCountQueryOrKeyHeads) {
  const ModelConfig config = config_of("llama");
  EXPECT_EQ(resolve_names("blocks.0.hook_q_input", config)[0].extra, 4);
  EXPECT_EQ(resolve_names("blocks.0.hook_k_input", config)[0].extra, 2);
}

TEST(HookNameTest, Globs) {
  const ModelConfig config = config_of("llama");
  EXPECT_EQ(resolve_sites("blocks.*.attn.hook_pattern", config).size(), 3u);
  EXPECT_EQ(resolve_sites("blocks.[0-1].attn.hook_?", config).size(), 2u * 4u);  // q, k, v, z
  EXPECT_EQ(only_name("blocks.2.*pattern", config), "blocks.2.attn.hook_pattern");
  EXPECT_EQ(resolve_sites("blocks.*.attn.hook_{q,rot_q}", config).size(), 6u);
  EXPECT_EQ(resolve_sites("blocks.{0,2}.hook_resid_pre", config).size(), 2u);
}

// "blocks.*.hook_out" is TransformerLens's residual, not each "blocks.*.mixer.hook_out".
TEST(HookNameTest, TheLayersStarTakesNoDots) {
  const std::vector<NamedSite> named = resolve_names("blocks.*.hook_out", config_of("mamba2"));
  ASSERT_EQ(named.size(), 3u);
  EXPECT_EQ(named[1].point.site, Site::ResidPost);
  EXPECT_EQ(named[1].name, "blocks.1.hook_out");
}

// What TransformerLens calls the outputs of norms behind the mixer and the MLP, of learned
// positions, and of the norms of queries and keys.
TEST(HookNameTest, NormsAndPositionsOfSomeModelsOnly) {
  const std::string b = "blocks.1.";
  expect_aliases("gpt2", {{"pos_embed.hook_out", "hook_pos_embed"}});
  expect_aliases("gemma2", {{b + "ln1.hook_in", b + "hook_resid_pre"},
                            {b + "ln1_post.hook_out", b + "ln1_post.hook_normalized"},
                            {b + "ln2_post.hook_out", b + "ln2_post.hook_normalized"}});
  expect_aliases("qwen3", {{b + "attn.q_norm.hook_out", b + "attn.hook_q_normed"},
                           {b + "attn.k_norm.hook_out", b + "attn.hook_k_normed"}});
  expect_aliases("olmo2", {{b + "mlp.hook_in", b + "hook_resid_mid"},
                           {b + "hook_mlp_in", b + "hook_resid_mid"}});
  expect_aliases("gpt_neox", {{b + "ln2.hook_in", b + "hook_resid_pre"},
                              {b + "hook_mlp_in", b + "hook_resid_pre"}});
  for (const std::string model : {"qwen3", "olmo2"}) {
    EXPECT_EQ(only_name(b + "attn.hook_q_normed", config_of(model)), b + "attn.hook_q_normed");
  }
  // The residual gets what the norm makes of it: these are other tensors.
  for (const std::string name : {"attn.hook_out", "attn.o.hook_out", "mlp.hook_out"}) {
    EXPECT_NE(error_of(b + name, "gemma2"), "no error") << name;
    EXPECT_NE(error_of(b + name, "olmo2"), "no error") << name;
  }
  EXPECT_NE(error_of(b + "ln1.hook_in", "olmo2"), "no error");
}

TEST(HookNameTest, LayersOfTwoMixersHaveTheNamesOfBoth) {
  const std::string b = "blocks.1.", m = b + "mixer.";
  for (const std::string model : {"falcon_h1", "zamba2"}) {
    expect_aliases(model, {{b + "attn.o.hook_in", b + "attn.hook_z"},
                           {b + "attn.hook_out", b + "hook_attn_out"},
                           {m + "out_proj.hook_in", m + "hook_z"},
                           {m + "hook_ssm_state", m + "hook_state"},
                           {m + "inner_norm.hook_out", m + "hook_z"},
                           {b + "hook_y", m + "hook_y"}});
    EXPECT_EQ(resolve_sites(b + "*hook_z", config_of(model)).size(), 2u);
  }
  expect_aliases("falcon_h1", {{b + "hook_mixer_in", b + "ln1.hook_normalized"},
                               {b + "ln2.hook_in", b + "hook_resid_mid"}});
  expect_aliases("zamba2", {{b + "hook_mixer_in", b + "ln_mixer.hook_normalized"},
                            {b + "hook_normalized_input", b + "ln_mixer.hook_normalized"},
                            {"blocks.0.hook_mixer_in", "blocks.0.ln1.hook_normalized"},
                            {b + "ln2.hook_in", b + "hook_attn_out"}});
  EXPECT_EQ(resolve_names(b + "hook_q_input", config_of("falcon_h1"))[0].extra, 4);
  EXPECT_EQ(resolve_names(b + "hook_k_input", config_of("falcon_h1"))[0].extra, 2);
  EXPECT_NE(error_of(b + "hook_q_input", "zamba2"), "no error");  // it reads the embedding as well
  EXPECT_NE(error_of(b + "mixer.inner_norm.hook_in", "falcon_h1_no_norm"), "no error");
}

TEST(HookNameTest, SuggestionsAndKindsInLayersOfTwoMixers) {
  EXPECT_EQ(error_of("blocks.1.attn.hook_patern", "zamba2"),
            "[hooks] hook name, expected a site of this model (did you mean "
            "'blocks.1.attn.hook_pattern'?), got 'blocks.1.attn.hook_patern'");
  EXPECT_EQ(error_of("blocks.1.hook_mixer_ou", "falcon_h1"),
            "[hooks] hook name, expected a site of this model (did you mean "
            "'blocks.1.hook_mixer_out'?), got 'blocks.1.hook_mixer_ou'");
  EXPECT_EQ(error_of("blocks.1.mixer.hook_A_bar", "zamba2"),
            "[hooks] site 'blocks.1.mixer.hook_A_bar', expected one of this model's, got a name "
            "that its layers (attention, mamba2) do not have");
  EXPECT_EQ(error_of("blocks.0.attn.hook_pattern", "zamba2"),
            "[hooks] site 'blocks.0.attn.hook_pattern', expected one of this model's, got a name "
            "that its layers (mamba2) do not have; the map of these layers is mixer.hook_map");
}

TEST(HookNameTest, HybridsHaveBothKindsOfMaps) {
  const std::vector<TapPoint> maps =
      resolve_sites("blocks.*.{attn.hook_pattern,mixer.hook_map}", config_of("bamba"));
  const std::vector<TapPoint> expected = {{Site::Map, 0}, {Site::Pattern, 1}, {Site::Map, 2}};
  EXPECT_EQ(maps, expected);
}

// An alternative may be a name of other kinds of layers, but not a slip of the pen.
TEST(HookNameTest, EveryAlternativeIsChecked) {
  EXPECT_EQ(resolve_sites("blocks.*.{attn.hook_pattern,mixer.hook_map}", config_of("llama")).size(),
            3u);
  EXPECT_EQ(error_of("blocks.*.{attn.hook_patern,mixer.hook_map}", "bamba"),
            "[hooks] hook name, expected a site of this model (did you mean "
            "'blocks.*.attn.hook_pattern'?), got 'blocks.*.attn.hook_patern'");
  EXPECT_EQ(error_of("blocks.{0,9}.hook_resid_pre", "bamba"),
            "[hooks] layer of 'blocks.9.hook_resid_pre', expected 0 to 2, got 9");
}

TEST(HookNameTest, MlpOnlyBlocksReadTheResidualBeforeTheirMlp) {
  const ModelConfig config = config_of("nemotron_h");  // Mamba-2, MLP, attention, Mamba-2
  EXPECT_EQ(only_name("blocks.1.ln2.hook_in", config), "blocks.1.hook_resid_pre");
  EXPECT_EQ(only_name("blocks.1.mlp.in.hook_out", config), "blocks.1.mlp.hook_pre");
  EXPECT_NE(error_of("blocks.1.hook_layer_input", "nemotron_h"), "no error");
}

TEST(HookNameTest, UnknownNamesGetASuggestion) {
  EXPECT_EQ(error_of("blocks.0.attn.hook_patern", "llama"),
            "[hooks] hook name, expected a site of this model (did you mean "
            "'blocks.0.attn.hook_pattern'?), got 'blocks.0.attn.hook_patern'");
  EXPECT_EQ(
      error_of("blocks.*.hook_delt", "mamba"),
      "[hooks] hook name, expected a site of this model (did you mean 'blocks.*.hook_delta'?), "
      "got 'blocks.*.hook_delt'");
  EXPECT_EQ(error_of("nothing_like_it_at_all", "llama"),
            "[hooks] hook name, expected a site of this model, got 'nothing_like_it_at_all'");
}

TEST(HookNameTest, NamesOfOtherKindsOfLayersSaySo) {
  EXPECT_EQ(
      error_of("blocks.0.attn.hook_pattern", "mamba"),
      "[hooks] site 'blocks.0.attn.hook_pattern', expected one of this model's, got a name that "
      "its layers (mamba1) do not have; the map of these layers is mixer.hook_map");
  EXPECT_EQ(
      error_of("blocks.*.mixer.hook_map", "llama"),
      "[hooks] site 'blocks.*.mixer.hook_map', expected one of this model's, got a name that its "
      "layers (attention) do not have; the map of these layers is attn.hook_pattern");
  EXPECT_EQ(
      error_of("blocks.1.mixer.hook_dt", "llamba"),
      "[hooks] site 'blocks.1.mixer.hook_dt', expected one of this model's, got a name that its "
      "layers (discrete_mamba2) do not have");
}

TEST(HookNameTest, LayersThatDoNotExist) {
  EXPECT_EQ(error_of("blocks.9.hook_resid_pre", "llama"),
            "[hooks] layer of 'blocks.9.hook_resid_pre', expected 0 to 2, got 9");
  EXPECT_EQ(error_of("blocks.[5-7].hook_resid_pre", "llama"),
            "[hooks] layer of 'blocks.[5-7].hook_resid_pre', expected 0 to 2, got [5-7]");
}

TEST(HookNameTest, NamesWithoutASingleTensorSayWhatToAskFor) {
  EXPECT_EQ(
      error_of("blocks.0.mixer.x_proj.hook_out", "mamba"),
      "[hooks] 'blocks.0.mixer.x_proj.hook_out', expected a single tensor, got none here: see "
      "mixer.hook_dt_lowrank, hook_B and hook_C");
  EXPECT_EQ(error_of("blocks.0.hook_h", "mamba"),
            "[hooks] 'blocks.0.hook_h', expected a single tensor, got none here: name a position, "
            "hook_h.5, or all of "
            "them, mixer.hook_state");
  EXPECT_EQ(error_of("hook_pos_embed", "llama"),
            "[hooks] 'hook_pos_embed', expected a single tensor, got none here: this model learns "
            "no positions; if they are rotary, see attn.hook_rot_q and attn.hook_rot_k");
  EXPECT_EQ(error_of("blocks.0.attn.hook_q_normed", "llama"),
            "[hooks] 'blocks.0.attn.hook_q_normed', expected a single tensor, got none here: these "
            "layers do not norm their queries: see attn.hook_q");
}

TEST(HookNameTest, EveryAliasResolvesInSomeFamily) {
  for (SiteAlias alias : site_aliases()) {
    const bool position = alias.alias.ends_with(".{pos}");
    if (position) alias.alias.replace(alias.alias.size() - 5, 5, "0");
    if (alias.alias.starts_with("blocks.{i}")) alias.alias.replace(7, 3, "*");
    bool found = false;
    for (const std::string& family : kFamilies) {
      found = found || error_of(alias.alias, family) == "no error";
    }
    EXPECT_TRUE(found) << alias.alias;
  }
}

}  // namespace
}  // namespace headlens
