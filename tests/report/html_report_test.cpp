// headlens/tests: report.html: what its data says, and that it needs nothing from outside.
#include "headlens/report/html_report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <regex>

#include "headlens/core/error.h"
#include "headlens/report/json_report.h"
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

/// Decodes base64 bit by bit, by another way than it was written.
std::vector<uint8_t> decode(const std::string& text) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::vector<bool> bits;
  EXPECT_EQ(text.size() % 4, 0u);
  for (const char c : text.substr(0, text.find('='))) {
    const size_t value = digits.find(c);
    EXPECT_NE(value, std::string::npos);
    for (int bit = 5; bit >= 0; --bit) bits.push_back((value >> bit & 1) != 0);
  }
  std::vector<uint8_t> bytes(bits.size() / 8);
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    bytes[i / 8] = static_cast<uint8_t>(bytes[i / 8] << 1 | (bits[i] ? 1 : 0));
  }
  return bytes;
}

void expect_map(const json& entry, const MapSample& sample) {
  EXPECT_EQ(entry.at("layer"), sample.head.layer);
  EXPECT_EQ(entry.at("first"), sample.head.first);
  EXPECT_EQ(entry.at("last"), sample.head.last);
  EXPECT_EQ(entry.at("tokens"), json(sample.tokens));
  EXPECT_EQ(entry.at("segments"), json(sample.segments));
  EXPECT_EQ(entry.at("target"), sample.target_segment);
  const std::vector<uint8_t> bytes = decode(entry.at("values"));
  const double scale = entry.at("scale");
  const Eigen::Index n = sample.map.rows();
  ASSERT_EQ(bytes.size(), static_cast<size_t>(n * (n + 1)));
  size_t at = 0;
  for (Eigen::Index i = 0; i < n; ++i) {
    for (Eigen::Index j = 0; j <= i; ++j, at += 2) {
      int units = bytes[at] + 256 * bytes[at + 1];
      if (units > 32767) units -= 65536;
      // Half a unit, and the rounding of the product.
      EXPECT_NEAR(units * scale, sample.map(i, j), 0.5001 * scale) << i << ", " << j;
    }
  }
  EXPECT_NEAR(scale * 32767, sample.map.cwiseAbs().maxCoeff(), 1e-12) << "the whole range is used";
}

TEST(ReportHtml, HoldsTheScoresAndTheMaps) {
  for (const SampleReport& s : {testing::sample_transformer(4, 8, 6), testing::sample_mamba1()}) {
    const json data = data_of(page_of(s));
    EXPECT_EQ(data.at("scores"), json::parse(scores_json(s.result, s.task, s.manifest)));
    ASSERT_EQ(data.at("maps").size(), s.result.maps.size());
    for (size_t i = 0; i < s.result.maps.size(); ++i) expect_map(data["maps"][i], s.result.maps[i]);
  }
}

TEST(ReportHtml, PacksAMapOfKnownBytes) {
  SampleReport s;
  MapSample sample;
  sample.tokens = {"a", "b"};
  sample.map = Eigen::MatrixXf(2, 2);
  sample.map << 1, 0, -1, 0.5f;
  s.result.maps = {sample};
  // 32767, -32767 and 16384 as little-endian int16: ff 7f 01 80 00 40.
  EXPECT_EQ(data_of(page_of(s))["maps"][0]["values"], "/38BgABA");
}

TEST(ReportHtml, SurvivesTokensThatLookLikeMarkup) {
  SampleReport s = testing::sample_transformer(2, 2, 2);
  std::vector<std::string>& tokens = s.result.maps[0].tokens;
  tokens[0] = "</script><script>alert(1)</script>";
  tokens[1] = "<!-- \u2028 \\ \" @DATA@";
  s.result.model.name = "</ScRiPt >";
  const std::string page = page_of(s);
  const json data = data_of(page);
  EXPECT_EQ(data["maps"][0]["tokens"], json(tokens));
  EXPECT_EQ(data["scores"]["model"]["name"], "</ScRiPt >");
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
}

TEST(ReportHtml, ReplacesPartsOfCharacters) {
  SampleReport s = testing::sample_transformer(2, 2, 2);
  s.result.maps[0].tokens[1] = "\xe2\x82";  // two bytes of the three of a euro sign
  EXPECT_EQ(data_of(page_of(s))["maps"][0]["tokens"][1], "\xef\xbf\xbd");
}

TEST(ReportHtml, TakesResultsWithNextToNothing) {
  EXPECT_EQ(data_of(page_of(SampleReport{})).at("maps"), json::array());
  SampleReport s;
  MapSample zero;
  zero.tokens = {"a"};
  zero.map = Eigen::MatrixXf::Zero(1, 1);
  s.result.maps = {MapSample{}, zero};
  const json maps = data_of(page_of(s)).at("maps");
  EXPECT_EQ(maps[0].at("values"), "");
  EXPECT_EQ(maps[1].at("values"), "AAA=");
  EXPECT_GT(maps[1].at("scale").get<double>(), 0);
}

TEST(ReportHtml, RefusesMapsThatDoNotFit) {
  const SampleReport good = testing::sample_transformer(1, 1, 2);
  SampleReport s = good;
  s.result.maps[0].tokens.pop_back();
  EXPECT_THROW(page_of(s), ShapeError);
  s = good;
  s.result.maps[0].map.conservativeResize(2, 3);
  EXPECT_THROW(page_of(s), ShapeError);
  s = good;
  s.result.maps[0].segments.back().second = 100;
  EXPECT_THROW(page_of(s), ShapeError);
  s = good;
  s.result.maps[0].map(3, 1) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(page_of(s), Error);
}

TEST(ReportHtml, NeedsNothingFromOutside) {
  std::string page = page_of(testing::sample_transformer(4, 8, 6));
  page = std::regex_replace(page, std::regex("http://www\\.w3\\.org/2000/svg"), "");
  for (const char* outside : {"http:", "https:", "//www", " src=", " href=", "url(", "@import",
                              "fetch(", "XMLHttpRequest", "import("}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  }
}

TEST(ReportHtml, StaysUnder3MegabytesFor1024Heads) {
  EXPECT_LT(page_of(testing::sample_transformer(32, 32, 60)).size(), 3u << 20);
}

TEST(ReportPage, IsTheFileInTheSourceTree) {
  const auto source =
      std::filesystem::path(HEADLENS_GOLDEN_DIR) / "../../src/report/report_page.html";
  std::ifstream file(source, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  ASSERT_FALSE(text.empty());
  EXPECT_EQ(text, kReportPage);
  EXPECT_NE(text.find("@DATA@"), std::string::npos);
  EXPECT_EQ(text.find("@DATA@"), text.rfind("@DATA@"));
}

}  // namespace
}  // namespace headlens
