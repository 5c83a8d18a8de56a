// headlens/tests: names of sites.
#include "headlens/model/site.h"

#include <gtest/gtest.h>

#include <set>

#include "model/model_tools.h"

namespace headlens {
namespace {

TEST(SiteNameTest, ThereAndBack) {
  std::set<std::string> names;
  for (int i = 0; i < static_cast<int>(Site::kCount); ++i) {
    const auto site = static_cast<Site>(i);
    const bool whole = site_name({site, 7}).find('7') == std::string::npos;
    const TapPoint point{site, whole ? -1 : 7};
    const std::string name = site_name(point);
    EXPECT_TRUE(names.insert(name).second) << name;
    ASSERT_TRUE(parse_site_name(name).has_value()) << name;
    EXPECT_TRUE(*parse_site_name(name) == point) << name;
  }
  EXPECT_EQ(site_name({Site::Pattern, 3}), "blocks.3.attn.hook_pattern");
  EXPECT_EQ(site_name({Site::FinalScale, -1}), "ln_final.hook_scale");
  EXPECT_EQ(site_name({Site::AttnOut, 12}), "blocks.12.hook_attn_out");
}

TEST(SiteNameTest, NothingElseIsAName) {
  for (const char* name :
       {"", "blocks", "blocks.", "blocks.3", "blocks.3.", "blocks.-1.hook_resid_pre",
        "blocks.03.hook_resid_pre", "blocks.3.hook_resid_pre ", "blocks.3.hook_embed",
        "hook_resid_pre", "blocks.99999999999999999999.hook_resid_pre", "blocks..hook_resid_pre"}) {
    EXPECT_FALSE(parse_site_name(name).has_value()) << name;
  }
}

TEST(SitesOfTest, ShapesInWords) {
  const ModelConfig config = testing::load_golden("bamba").config();
  std::map<std::string, std::string> shapes;
  for (const SiteInfo& info : sites_of(config)) shapes[info.name] = info.shape;
  EXPECT_EQ(shapes["blocks.1.attn.hook_k"], "[batch, pos, kv_head=1, d_head=12]");
  EXPECT_EQ(shapes["blocks.1.attn.hook_pattern"], "[batch, head=3, q, k]");
  EXPECT_EQ(shapes["blocks.0.mixer.hook_state"], "[batch, pos, head=6, d_head=12, d_state=5]");
  EXPECT_EQ(shapes["blocks.0.mixer.hook_A"], "[head=6]");
  EXPECT_EQ(shapes["logits"], "[batch, pos, vocab=97]");
  EXPECT_FALSE(shapes.contains("blocks.0.attn.hook_q"));
}

}  // namespace
}  // namespace headlens
