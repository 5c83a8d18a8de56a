// headlens/tests: report.html: what its data says, and that it needs nothing from outside.
#include "headlens/report/html_report.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "headlens/report/json_report.h"
#include "headlens/report/maps_json.h"
#include "report/report_page.h"
#include "samples/sample_result.h"

namespace headlens {
namespace {

using nlohmann::json;
using testing::SampleReport;

std::string page_of(const SampleReport& s) {
  return report_html(s.result, s.task, s.manifest);
}

/// The page's data as a browser finds it: up to the first thing that ends a script element.
json data_of(const std::string& page) {
  const std::string open = R"(<script id="data" type="application/json">)";
  const size_t begin = page.find(open) + open.size();
  const std::string data = page.substr(begin, page.find("</script", begin) - begin);
  EXPECT_EQ(data.find("<!--"), std::string::npos);
  return json::parse(data);
}

TEST(ReportHtml, HoldsTheDocumentsOfScoresAndMaps) {
  for (const SampleReport& s : {testing::sample_transformer(4, 8, 6), testing::sample_mamba1()}) {
    const json data = data_of(page_of(s));
    EXPECT_EQ(data.at("scores"), json::parse(scores_json(s.result, s.task, s.manifest)));
    EXPECT_EQ(data.at("maps"), json::parse(maps_json(s.result, s.manifest)));
  }
}

TEST(ReportHtml, SurvivesTokensThatLookLikeMarkup) {
  SampleReport s = testing::sample_transformer(2, 2, 2);
  std::vector<std::string>& tokens = s.result.maps[0].tokens;
  tokens[0] = "</script><script>alert(1)</script>";
  tokens[1] = "<!-- \u2028 \\ \" @DATA@";
  s.result.model.name = "</ScRiPt >";
  const std::string page = page_of(s);
  const json data = data_of(page);
  EXPECT_EQ(data["maps"]["prompts"][0]["tokens"], json(tokens));
  EXPECT_EQ(data["scores"]["model"]["name"], "</ScRiPt >");
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
}

TEST(ReportHtml, ReplacesPartsOfCharacters) {
  SampleReport s = testing::sample_transformer(2, 2, 2);
  s.result.maps[0].tokens[1] = "\xe2\x82";  // two bytes of the three of a euro sign
  EXPECT_EQ(data_of(page_of(s))["maps"]["prompts"][0]["tokens"][1], "\xef\xbf\xbd");
}

TEST(ReportHtml, TakesResultsWithNextToNothing) {
  EXPECT_EQ(data_of(page_of(SampleReport{}))["maps"]["maps"], json::array());
}

TEST(ReportHtml, NeedsNothingFromOutside) {
  std::string page = page_of(testing::sample_transformer(4, 8, 6));
  page = std::regex_replace(page, std::regex("http://www\\.w3\\.org/2000/svg"), "");
  for (const char* outside : {"http:", "https:", "//www", " src=", " href=", "url(", "@import",
                              "fetch(", "XMLHttpRequest", "import("}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  }
}

TEST(ReportHtml, StaysUnder3MegabytesFor1024HeadsAndAPromptOf4096Tokens) {
  const SampleReport s = testing::sample_transformer(32, 32, 1023);
  ASSERT_EQ(s.result.maps.size(), 8u);
  ASSERT_EQ(s.result.maps[0].tokens.size(), 4095u);
  EXPECT_LT(page_of(s).size(), 3'000'000u);
}

TEST(ReportPage, HoldsTheFilesOfTheSourceTree) {
  const auto folder = std::filesystem::path(HEADLENS_GOLDEN_DIR) / "../../src/report/page";
  size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".html") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    ASSERT_FALSE(text.empty());
    const bool in_report = kReportPage.find(text) != std::string_view::npos;
    const bool in_compare = kComparePage.find(text) != std::string_view::npos;
    EXPECT_TRUE(in_report || in_compare) << entry.path();
    ++found;
  }
  EXPECT_GT(found, 2u);
  for (const std::string_view page : {kReportPage, kComparePage}) {
    EXPECT_EQ(page.find("@INCLUDE"), std::string_view::npos);
    EXPECT_NE(page.find("@DATA@"), std::string_view::npos);
    EXPECT_EQ(page.find("@DATA@"), page.rfind("@DATA@"));
  }
}

}  // namespace
}  // namespace headlens
