// headlens/tests: maps.json: every level of every map against the matrix it was made from.
#include "headlens/report/maps_json.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "headlens/core/error.h"
#include "samples/sample_result.h"

namespace headlens {
namespace {

using nlohmann::json;
using testing::SampleReport;
using Matrix = Eigen::MatrixXd;

constexpr int64_t kTile = 256;

json maps_of(const SampleReport& s, const MapLimits& limits = kReportMaps) {
  return json::parse(maps_json(s.result, s.manifest, limits));
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

std::vector<uint8_t> inflated(const std::string& text, size_t size) {
  const std::vector<uint8_t> packed = decode(text);
  std::vector<uint8_t> bytes(size + 1);  // one more shows a stream that is too long
  uLongf got = bytes.size();
  EXPECT_EQ(uncompress(bytes.data(), &got, packed.data(), packed.size()), Z_OK);
  EXPECT_EQ(got, size);
  bytes.resize(size);
  return bytes;
}

/// Signed numbers from high bytes, then low bytes.
std::vector<int> units_of(const json& text, size_t count) {
  const std::vector<uint8_t> bytes = inflated(text, 2 * count);
  std::vector<int> units(count);
  for (size_t i = 0; i < count; ++i) {
    units[i] = 256 * bytes[i] + bytes[count + i];
    if (units[i] > 32767) units[i] -= 65536;
  }
  return units;
}

/// A level put together from its tiles, in the map's own numbers.
Matrix level_of(const json& map, size_t index) {
  const json& level = map["levels"][index];
  const int64_t n = level["size"];
  Matrix whole = Matrix::Zero(n, n);
  size_t tile = 0;
  for (int64_t i = 0; i < n; i += kTile) {
    for (int64_t j = 0; j <= i; j += kTile, ++tile) {
      const int64_t rows = std::min(kTile, n - i), columns = std::min(kTile, n - j);
      const auto units = units_of(level["tiles"].at(tile),
                                  static_cast<size_t>(rows) * static_cast<size_t>(columns));
      for (int64_t k = 0; k < rows * columns; ++k) {
        whole(i + k / columns, j + k % columns) =
            units[static_cast<size_t>(k)] * map["scale"].get<double>();
      }
    }
  }
  EXPECT_EQ(tile, level["tiles"].size());
  return whole;
}

/// The largest magnitude of each block of `factor` x `factor`.
Matrix largest(const Matrix& map, int64_t factor) {
  const int64_t n = (map.rows() + factor - 1) / factor;
  Matrix most = Matrix::Zero(n, n);
  for (int64_t i = 0; i < map.rows(); ++i) {
    for (int64_t j = 0; j < map.cols(); ++j) {
      most(i / factor, j / factor) = std::max(most(i / factor, j / factor), std::abs(map(i, j)));
    }
  }
  return most;
}

/// A report of one signed map of n tokens, with nothing to be seen above its diagonal.
SampleReport one_map(int64_t n, double noise = 1) {
  std::mt19937 rng(5);
  std::uniform_real_distribution<float> value(-1, 1);
  SampleReport s;
  MapSample sample;
  sample.head = {3, 1, 1};
  sample.map = Eigen::MatrixXf::Zero(n, n);
  for (int64_t i = 0; i < n; ++i) {
    sample.tokens.push_back("t" + std::to_string(i));
    for (int64_t j = 0; j <= i; ++j) {
      sample.map(i, j) = static_cast<float>(noise) * value(rng) * (i == j ? 3.0f : 0.7f);
    }
  }
  s.result.maps = {sample};
  return s;
}

TEST(MapsJson, HoldsSmallMapsInOneTile) {
  for (const SampleReport& s : {testing::sample_transformer(4, 8, 6), testing::sample_mamba1()}) {
    const json document = maps_of(s);
    EXPECT_EQ(document["schema"], "headlens.maps/1");
    EXPECT_EQ(document["tile"], kTile);
    ASSERT_EQ(document["maps"].size(), s.result.maps.size());
    for (size_t m = 0; m < s.result.maps.size(); ++m) {
      const MapSample& sample = s.result.maps[m];
      const json& entry = document["maps"][m];
      EXPECT_EQ(entry["layer"], sample.head.layer);
      EXPECT_EQ(entry["first"], sample.head.first);
      EXPECT_EQ(entry["last"], sample.head.last);
      ASSERT_EQ(entry["levels"].size(), 1u);
      const double scale = entry["scale"];
      const Matrix map = sample.map.cast<double>(), read = level_of(entry, 0);
      // Half a unit, and the rounding of the product.
      EXPECT_LE((read - map).cwiseAbs().maxCoeff(), 0.5001 * scale);
      EXPECT_NEAR(scale * 32767, map.cwiseAbs().maxCoeff(), 1e-12) << "the whole range is used";
      EXPECT_EQ(entry["lowest"].get<double>(), std::min(0.0, read.minCoeff()));
      EXPECT_EQ(entry["highest"].get<double>(), std::max(0.0, read.maxCoeff()));
    }
  }
}

TEST(MapsJson, CutsLongMapsIntoLevelsOfTiles) {
  const SampleReport s = one_map(600);
  const json entry = maps_of(s, MapLimits{})["maps"][0];
  const Matrix map = s.result.maps[0].map.cast<double>();
  ASSERT_EQ(entry["levels"].size(), 3u);
  for (size_t k = 0; k < 3; ++k) {
    const int64_t factor = int64_t{1} << k;
    EXPECT_EQ(entry["levels"][k]["factor"], factor);
    EXPECT_EQ(entry["levels"][k]["size"], 600 / factor);
    const Matrix read = level_of(entry, k);
    const Matrix wrong =
        k == 0 ? Matrix(read - map) : Matrix(read.cwiseAbs() - largest(map, factor));
    EXPECT_LE(wrong.cwiseAbs().maxCoeff(), 0.5001 * entry["scale"].get<double>()) << factor;
    EXPECT_LT(read.minCoeff(), 0) << "signs are kept";
  }
}

TEST(MapsJson, KeepsTheLastRowWholeAndCoarserLevelsUnderALimit) {
  const SampleReport s = one_map(600);
  const Matrix map = s.result.maps[0].map.cast<double>();
  const MapLimits limits{60'000};
  const json entry = maps_of(s, limits)["maps"][0];
  EXPECT_EQ(entry["levels"][0]["factor"], 4) << "noise does not compress: 300 x 300 is too much";
  size_t bytes = 0;
  for (const json& tile : entry["levels"][0]["tiles"]) bytes += tile.get<std::string>().size();
  EXPECT_LE(bytes, static_cast<size_t>(limits.bytes));
  const double scale = entry["scale"];
  EXPECT_NEAR(scale * 32767, map.cwiseAbs().maxCoeff(), 1e-12) << "rounding more brings nothing";
  EXPECT_LE((level_of(entry, 0).cwiseAbs() - largest(map, 4)).cwiseAbs().maxCoeff(),
            0.5001 * scale);
  const std::vector<int> row = units_of(entry["last_row"], 600);
  for (int64_t j = 0; j < 600; ++j) {
    EXPECT_NEAR(row[static_cast<size_t>(j)] * scale, map(599, j), 0.5001 * scale) << j;
  }
}

TEST(MapsJson, RoundsMoreBeforeItLeavesEntriesOut) {
  SampleReport s = one_map(400, 3e-3);
  s.result.maps[0].map(0, 0) = 1;  // the others take 7 bits of 32767 steps, and 3 of 2047
  const json whole = maps_of(s, MapLimits{})["maps"][0];
  const json fits = maps_of(s, MapLimits{100'000})["maps"][0];
  EXPECT_NEAR(whole["scale"].get<double>(), 1.0 / 32767, 1e-12);
  EXPECT_NEAR(fits["scale"].get<double>(), 1.0 / 2047, 1e-12);
  EXPECT_EQ(fits["levels"][0]["factor"], 1);
  EXPECT_LE((level_of(fits, 0) - s.result.maps[0].map.cast<double>()).cwiseAbs().maxCoeff(),
            0.5001 / 2047);
}

TEST(MapsJson, SaysAPromptOnceForAllItsMaps) {
  SampleReport s = testing::sample_transformer(4, 8, 6);
  MapSample other = s.result.maps[0];
  other.tokens[1] = "another";
  other.first_position = 128;
  s.result.maps.push_back(other);
  const json document = maps_of(s);
  ASSERT_EQ(document["prompts"].size(), 2u);
  EXPECT_EQ(document["prompts"][0]["tokens"], json(s.result.maps[0].tokens));
  EXPECT_EQ(document["prompts"][0]["segments"], json(s.result.maps[0].segments));
  EXPECT_EQ(document["prompts"][0]["target"], s.result.maps[0].target_segment);
  EXPECT_EQ(document["prompts"][1]["first_position"], 128);
  EXPECT_EQ(document["maps"].back()["prompt"], 1);
  EXPECT_EQ(document["maps"][0]["prompt"], 0);
}

TEST(MapsJson, PacksATileOfKnownBytes) {
  SampleReport s;
  MapSample sample;
  sample.tokens = {"a", "b"};
  sample.map = Eigen::MatrixXf(2, 2);
  sample.map << 1, 0, -1, 0.5f;
  s.result.maps = {sample};
  const json tile = maps_of(s)["maps"][0]["levels"][0]["tiles"][0];
  // 32767, 0, -32767, 16384: their high bytes, then their low ones.
  EXPECT_EQ(inflated(tile, 8),
            (std::vector<uint8_t>{0x7f, 0x00, 0x80, 0x40, 0xff, 0x00, 0x01, 0x00}));
}

TEST(MapsJson, TakesEmptyMapsAndZeros) {
  SampleReport s;
  MapSample zero;
  zero.tokens = {"a"};
  zero.map = Eigen::MatrixXf::Zero(1, 1);
  s.result.maps = {MapSample{}, zero};
  const json maps = maps_of(s)["maps"];
  EXPECT_EQ(maps[0]["size"], 0);
  EXPECT_EQ(maps[0]["levels"][0]["tiles"], json::array());
  EXPECT_EQ(units_of(maps[1]["levels"][0]["tiles"][0], 1), std::vector<int>{0});
  EXPECT_GT(maps[1]["scale"].get<double>(), 0);
  EXPECT_EQ(maps_of(SampleReport{})["maps"], json::array());
}

TEST(MapsJson, RefusesMapsThatDoNotFit) {
  const SampleReport good = testing::sample_transformer(1, 1, 2);
  SampleReport s = good;
  s.result.maps[0].tokens.pop_back();
  EXPECT_THROW(maps_of(s), ShapeError);
  s = good;
  s.result.maps[0].map.conservativeResize(2, 3);
  EXPECT_THROW(maps_of(s), ShapeError);
  s = good;
  s.result.maps[0].segments.back().second = 100;
  EXPECT_THROW(maps_of(s), ShapeError);
  s = good;
  s.result.maps[0].map(3, 1) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(maps_of(s), Error);
}

}  // namespace
}  // namespace headlens
