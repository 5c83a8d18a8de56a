// headlens/report: maps.json, the maps a page shows.
#pragma once

#include <cstdint>
#include <string>

#include "headlens/analysis/types.h"
#include "headlens/report/manifest.h"

namespace headlens {

/// How many bytes the maps of a page may take.
struct MapLimits {
  int64_t bytes = 0;  ///< of text in the JSON, tokens besides; 0: whatever whole maps take
};

/// What a report of any model may take, so that with the scores of 1024 heads it is below 3 MB.
inline constexpr MapLimits kReportMaps{1'900'000};

/// The text of maps.json, schema headlens.maps/1 (docs/report.md): each map as levels of tiles, the
/// finest first, of which under a limit the finest may be left out; its last row is whole in any
/// case. ShapeError for a map that is not square or does not fit its tokens, Error for numbers that
/// are not finite.
std::string maps_json(const FindResult& result, const Manifest& manifest,
                      const MapLimits& limits = kReportMaps);

}  // namespace headlens
