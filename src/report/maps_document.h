// headlens/report: the document of maps.json, which pages hold too.
#pragma once

#include <nlohmann/json.hpp>

#include "headlens/analysis/types.h"
#include "headlens/report/maps_json.h"

namespace headlens {

nlohmann::ordered_json maps_document(const FindResult& result, const Manifest& manifest,
                                     const MapLimits& limits);

}  // namespace headlens
