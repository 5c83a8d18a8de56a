// headlens/tests: docs/sites.md lists every site and every alias.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "hooks/hook_tools.h"

namespace headlens {
namespace {

std::string read_sites_page() {
  std::ifstream file(std::filesystem::path(HEADLENS_GOLDEN_DIR) / "../../docs/sites.md");
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The row of the page's tables that begins with the name, or "".
std::string row_of(const std::string& page, const std::string& name) {
  const size_t begin = page.find("\n| `" + name + "` |");
  return begin == std::string::npos
             ? ""
             : page.substr(begin + 1, page.find('\n', begin + 1) - begin - 1);
}

std::string bare(std::string name) {
  const std::string block = "blocks.{i}.";
  return name.starts_with(block) ? name.substr(block.size()) : name;
}

TEST(SitesPageTest, HasARowForEverySite) {
  const std::string page = read_sites_page();
  for (int i = 0; i < static_cast<int>(Site::kCount); ++i) {
    std::string name = site_name({static_cast<Site>(i), 0});
    if (name.starts_with("blocks.0.")) name = name.substr(9);
    EXPECT_NE(row_of(page, name), "") << name;
  }
}

TEST(SitesPageTest, HasARowForEveryAliasThatNamesItsSite) {
  const std::string page = read_sites_page();
  for (const SiteAlias& alias : site_aliases()) {
    const std::string row = row_of(page, bare(alias.alias));
    EXPECT_NE(row.find("`" + bare(alias.canonical) + "`"), std::string::npos)
        << alias.alias << " -> " << alias.canonical;
  }
}

// The shapes that the page states are those of the models.
TEST(SitesPageTest, ShapesAreThoseOfTheModels) {
  const std::string page = read_sites_page();
  for (const std::string& family : testing::kFamilies) {
    for (const SiteInfo& info : sites_of(testing::config_of(family))) {
      std::string shape = "[";
      for (const std::string& dim : info.dims) shape += (shape == "[" ? "" : ", ") + dim;
      const std::string name =
          info.point.layer < 0 ? info.name : info.name.substr(info.name.find('.', 7) + 1);
      EXPECT_NE(row_of(page, name).find("`" + shape + "]`"), std::string::npos)
          << family << " " << name << " " << shape;
    }
  }
}

}  // namespace
}  // namespace headlens
