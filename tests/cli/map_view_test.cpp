// headlens/tests: maps in a terminal's characters.
#include "cli/map_view.h"

#include <gtest/gtest.h>

#include <sstream>

namespace headlens::cli {
namespace {

constexpr Screen kAscii = {false, false, false, 80};

std::vector<std::string> names(int64_t count) {
  std::vector<std::string> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back("t" + std::to_string(i));
  return tokens;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST(MapView, ShadesUnderAMarginOfTokens) {
  Eigen::MatrixXf map(3, 3);
  map << 1, 0, 0, 0.5, 0.5, 0, 0, 0.2F, 0.8F;
  const std::string text = maps_view({{"2.1", map}}, names(3), names(3), kAscii);
  EXPECT_EQ(text,
            "           2.1\n"
            "t0         ##    \n"
            "t1         ++++  \n"
            "t2           ..**\n\n"  // 0.8 of the largest, 1
            "last row of 2.1\n"
            "t0  t1. t2# \n");  // against the row's own largest
}

TEST(MapView, SignsAreTold) {
  Eigen::MatrixXf map(1, 4);
  map << -1, -0.5F, 0.5F, 1;
  const auto lines = lines_of(maps_view({{"m", map}}, {"q"}, names(4), kAscii));
  EXPECT_EQ(lines[1], "q          %%~~++##");
}

TEST(MapView, TheEntryOfLargestSizeSurvivesPooling) {
  Eigen::MatrixXf map = Eigen::MatrixXf::Constant(7, 5, 0.1F);
  map(3, 4) = -2;
  const Eigen::MatrixXf pooled = max_pooled(map, 2, 3);
  ASSERT_EQ(pooled.rows(), 4);
  ASSERT_EQ(pooled.cols(), 2);
  EXPECT_EQ(pooled(1, 1), -2);
  EXPECT_EQ(pooled(0, 0), 0.1F);
}

TEST(MapView, LongPromptsFitTheWidthAndSaySo) {
  const int64_t length = 300;
  Eigen::MatrixXf map = Eigen::MatrixXf::Zero(length, length);
  map(299, 17) = 1;
  for (const int64_t width : {40, 80, 133}) {
    const Screen narrow = {false, false, false, width};
    const std::string text = maps_view({{"m", map}}, names(length), names(length), narrow);
    const auto lines = lines_of(text.substr(0, text.find("last row")));
    for (const std::string& line : lines) {
      EXPECT_TRUE(line.starts_with("each entry") || std::ssize(line) <= width) << line;
    }
    EXPECT_EQ(std::count(text.begin(), text.begin() + text.find("each entry"), '#'), 1);
    EXPECT_NE(text.find("each entry is the largest of"), std::string::npos);
  }
}

TEST(MapView, HeadsStandSideBySideWhereThereIsRoom) {
  const Eigen::MatrixXf map = Eigen::MatrixXf::Identity(4, 4);
  const auto wide = lines_of(maps_view({{"0.0", map}, {"0.1", map}}, names(4), names(4), kAscii));
  EXPECT_NE(wide[0].find("0.0"), std::string::npos);
  EXPECT_NE(wide[0].find("0.1"), std::string::npos);
  const Screen narrow = {false, false, false, 24};
  const auto one = lines_of(maps_view({{"0.0", map}, {"0.1", map}}, names(4), names(4), narrow));
  EXPECT_EQ(one[0].find("0.1"), std::string::npos);
}

TEST(MapView, ColoursAreTwoRowsALineWhereRowsAreMany) {
  const Screen colours = {true, true, true, 80};
  const Eigen::MatrixXf map = Eigen::MatrixXf::Identity(60, 60);
  const std::string text = maps_view({{"m", map}}, names(60), names(60), colours);
  const std::string drawn = text.substr(0, text.find("last row"));
  EXPECT_EQ(std::count(drawn.begin(), drawn.end(), '\n'), 1 + 30 + 1);
  EXPECT_NE(drawn.find("\x1b[38;2;255;214;90;48;2;34;34;40m▀"), std::string::npos);
  const Screen few = {true, false, true, 80};
  EXPECT_NE(maps_view({{"m", map}}, names(60), names(60), few).find("\x1b[38;5;"),
            std::string::npos);
}

}  // namespace
}  // namespace headlens::cli
