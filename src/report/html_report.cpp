// headlens/report: report.html, one self-contained page that needs no network.
#include "headlens/report/html_report.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "report/report_page.h"
#include "report/scores_document.h"

namespace headlens {
namespace {

using Json = nlohmann::ordered_json;

std::string base64(const std::string& bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](size_t k) {
      return i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0u;
    };
    const uint32_t word = byte(0) << 16 | byte(1) << 8 | byte(2);
    for (size_t k = 0; k < 4; ++k) {
      text += i + k > bytes.size() ? '=' : kDigits[word >> (18 - 6 * k) & 63];
    }
  }
  return text;
}

/// Pairs [start, end], both included.
Json segment_list(const MapSample& sample) {
  Json list = Json::array();
  const auto n = static_cast<int64_t>(sample.tokens.size());
  for (const auto& [start, end] : sample.segments) {
    HEADLENS_CHECK(ShapeError, 0 <= start && start <= end && end < n,
                   "[report] segment of a map, expected within {} tokens, got {} to {}", n, start,
                   end);
    list.push_back({start, end});
  }
  return list;
}

/// The lower triangle as little-endian int16 in units of `scale`: half the bytes of float32, and
/// the colours and the three digits the page shows need no more.
std::string packed_map(const Eigen::MatrixXf& map, double scale) {
  std::string bytes;
  for (Eigen::Index i = 0; i < map.rows(); ++i) {
    for (Eigen::Index j = 0; j <= i; ++j) {
      const auto units =
          static_cast<uint16_t>(static_cast<int16_t>(std::lround(map(i, j) / scale)));
      bytes += static_cast<char>(units & 255);
      bytes += static_cast<char>(units >> 8);
    }
  }
  return base64(bytes);
}

Json map_entry(const MapSample& sample) {
  constexpr double kLargestInt16 = 32767;
  const Eigen::MatrixXf& map = sample.map;
  const auto& [layer, first, last] = sample.head;
  const auto n = static_cast<size_t>(map.rows());
  HEADLENS_CHECK(ShapeError, map.rows() == map.cols() && sample.tokens.size() == n,
                 "[report] map of layer {} head {}, expected {} x {} (its tokens), got {} x {}",
                 layer, first, sample.tokens.size(), sample.tokens.size(), map.rows(), map.cols());
  HEADLENS_CHECK(Error, map.allFinite(),
                 "[report] map of layer {} head {}, expected finite entries, got others", layer,
                 first);
  const double top = n == 0 ? 0 : static_cast<double>(map.cwiseAbs().maxCoeff());
  const double scale = top > 0 ? top / kLargestInt16 : 1;
  return {{"layer", layer},
          {"first", first},
          {"last", last},
          {"tokens", sample.tokens},
          {"segments", segment_list(sample)},
          {"target", sample.target_segment},
          {"scale", scale},
          {"values", packed_map(map, scale)}};
}

}  // namespace

std::string report_html(const FindResult& result, const TaskInfo& task, const Manifest& manifest) {
  Json data = {{"scores", scores_document(result, task, manifest)}, {"maps", Json::array()}};
  for (const MapSample& sample : result.maps) data["maps"].push_back(map_entry(sample));
  return page_with(kReportPage, data);
}

}  // namespace headlens
