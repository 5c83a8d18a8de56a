// headlens/report: report.html, one self-contained page that needs no network.
#pragma once

#include <string>

#include "headlens/analysis/types.h"
#include "headlens/report/manifest.h"
#include "headlens/report/maps_json.h"
#include "headlens/tasks/types.h"

namespace headlens {

/// The page: the circuit, a layer x head grid of every figure, maps of the found heads over their
/// tokens, what each head costs, entropy of all heads, the manifest. It holds the documents of
/// scores.json and maps.json and shows no other number. Throws what scores_json and maps_json do.
std::string report_html(const FindResult& result, const TaskInfo& task, const Manifest& manifest,
                        const MapLimits& limits = kReportMaps);

}  // namespace headlens
