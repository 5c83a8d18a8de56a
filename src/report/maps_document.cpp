// headlens/report: maps.json: maps as levels of tiles that a page can draw a part of.
#include "report/maps_document.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/check.h"
#include "report/packed.h"
#include "report/scores_document.h"

namespace headlens {
namespace {

using Json = nlohmann::ordered_json;
/// Units of a map's scale, [query, key], zeros above the diagonal.
using Units = Eigen::Matrix<int16_t, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr Eigen::Index kTile = 256;
constexpr int kFineUnits = 32767;   // of the largest entry
constexpr int kCoarseUnits = 2047;  // where a limit leaves no room for those

/// One prompt's tokens stand once, however many maps are over them.
Json prompt_entry(const MapSample& sample) {
  Json segments = Json::array();
  const auto n = static_cast<int64_t>(sample.tokens.size());
  for (const auto& [start, end] : sample.segments) {
    HEADLENS_CHECK(ShapeError, 0 <= start && start <= end && end < n,
                   "[report] segment of a map, expected within {} tokens, got {} to {}", n, start,
                   end);
    segments.push_back({start, end});
  }
  return {{"first_position", sample.first_position},
          {"tokens", sample.tokens},
          {"segments", std::move(segments)},
          {"target", sample.target_segment}};
}

void check_map(const MapSample& sample) {
  const Eigen::MatrixXf& map = sample.map;
  HEADLENS_CHECK(ShapeError, map.rows() == map.cols() && map.rows() == std::ssize(sample.tokens),
                 "[report] map of layer {} head {}, expected {} x {} (its tokens), got {} x {}",
                 sample.head.layer, sample.head.first, sample.tokens.size(), sample.tokens.size(),
                 map.rows(), map.cols());
  HEADLENS_CHECK(Error, map.allFinite(),
                 "[report] map of layer {} head {}, expected finite entries, got others",
                 sample.head.layer, sample.head.first);
}

Units in_units(const Eigen::MatrixXf& map, double scale) {
  Units units = Units::Zero(map.rows(), map.cols());
  for (Eigen::Index i = 0; i < map.rows(); ++i) {
    for (Eigen::Index j = 0; j <= i; ++j) {
      units(i, j) = static_cast<int16_t>(std::lround(map(i, j) / scale));
    }
  }
  return units;
}

/// Half as many rows and columns: of each four entries the one furthest from 0.
Units halved(const Units& from) {
  const Eigen::Index size = (from.rows() + 1) / 2;
  Units to = Units::Zero(size, size);
  for (Eigen::Index i = 0; i < from.rows(); ++i) {
    for (Eigen::Index j = 0; j <= i; ++j) {
      int16_t& kept = to(i / 2, j / 2);
      if (std::abs(from(i, j)) > std::abs(kept)) kept = from(i, j);
    }
  }
  return to;
}

/// The tiles on and below the diagonal, row by row; empty once they take more than `room`.
Json packed_tiles(const Units& units, int64_t room) {
  Json tiles = Json::array();
  for (Eigen::Index i = 0; i < units.rows(); i += kTile) {
    for (Eigen::Index j = 0; j <= i; j += kTile) {
      const Units tile =
          units.block(i, j, std::min(kTile, units.rows() - i), std::min(kTile, units.cols() - j));
      tiles.push_back(packed_int16({tile.data(), tile.data() + tile.size()}));
      room -= std::ssize(tiles.back().get_ref<const std::string&>());
      if (room < 0) return Json::array();
    }
  }
  return tiles;
}

int64_t text_size(const Json& tiles) {
  int64_t size = 0;
  for (const Json& tile : tiles) size += std::ssize(tile.get_ref<const std::string&>());
  return size;
}

/// Levels that fit into `room`, the finest first; the coarsest, of one tile, in any case.
Json packed_levels(const Units& units, int64_t room) {
  std::vector<std::pair<int64_t, Units>> sizes = {{1, units}};
  while (sizes.back().second.rows() > kTile) {
    sizes.emplace_back(sizes.back().first * 2, halved(sizes.back().second));
  }
  std::vector<Json> levels;  // the coarsest first
  for (auto at = sizes.rbegin(); at != sizes.rend(); ++at) {
    Json tiles = packed_tiles(at->second, levels.empty() ? INT64_MAX : room);
    if (tiles.empty() && at->second.size() > 0) break;
    room -= text_size(tiles);
    levels.push_back(
        {{"factor", at->first}, {"size", at->second.rows()}, {"tiles", std::move(tiles)}});
  }
  return Json(std::vector<Json>(levels.rbegin(), levels.rend()));
}

/// Scale, last row and levels, with entries rounded to 1 / `steps` of the largest.
Json map_values(const Eigen::MatrixXf& map, int steps, int64_t room) {
  const double top = map.size() == 0 ? 0 : static_cast<double>(map.cwiseAbs().maxCoeff());
  const double scale = top > 0 ? top / steps : 1;
  const Units units = in_units(map, scale);
  const std::vector<int16_t> last(units.data() + units.size() - units.cols(),
                                  units.data() + units.size());
  return {{"scale", scale},
          {"lowest", units.size() == 0 ? 0 : std::min<int>(0, units.minCoeff()) * scale},
          {"highest", units.size() == 0 ? 0 : std::max<int>(0, units.maxCoeff()) * scale},
          {"last_row", packed_int16(last)},
          {"levels", packed_levels(units, room)}};
}

int64_t finest_factor(const Json& values) {
  return values["levels"][0]["factor"].get<int64_t>();
}

Json map_entry(const MapSample& sample, size_t prompt, int64_t room) {
  check_map(sample);
  Json entry = {{"layer", sample.head.layer},
                {"first", sample.head.first},
                {"last", sample.head.last},
                {"prompt", prompt},
                {"size", sample.map.rows()}};
  Json values = map_values(sample.map, kFineUnits, room);
  if (finest_factor(values) > 1) {
    Json rounded = map_values(sample.map, kCoarseUnits, room);
    if (finest_factor(rounded) < finest_factor(values)) values = std::move(rounded);
  }
  entry.update(values);
  return entry;
}

int64_t levels_size(const Json& entry) {
  int64_t size = 0;
  for (const Json& level : entry["levels"]) size += text_size(level["tiles"]);
  return size;
}

}  // namespace

Json maps_document(const FindResult& result, const Manifest& manifest, const MapLimits& limits) {
  Json document = {{"schema", "headlens.maps/1"},
                   {"model", model_document(result.model)},
                   {"manifest", manifest_document(manifest, Json::object())},
                   {"tile", kTile},
                   {"prompts", Json::array()},
                   {"maps", Json::array()}};
  Json& prompts = document["prompts"];
  int64_t room = limits.bytes, left = std::ssize(result.maps);
  for (const MapSample& sample : result.maps) {
    Json prompt = prompt_entry(sample);
    const auto known = std::find(prompts.begin(), prompts.end(), prompt);
    const auto index = static_cast<size_t>(known - prompts.begin());
    if (known == prompts.end()) prompts.push_back(std::move(prompt));
    // What one map leaves of its share, the next may have.
    Json entry = map_entry(sample, index, limits.bytes == 0 ? INT64_MAX : room / left);
    room -= levels_size(entry);
    --left;
    document["maps"].push_back(std::move(entry));
  }
  return document;
}

std::string maps_json(const FindResult& result, const Manifest& manifest, const MapLimits& limits) {
  return json_text(maps_document(result, manifest, limits), 1) + "\n";
}

}  // namespace headlens
