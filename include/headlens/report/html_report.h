// headlens/report: report.html, one self-contained page that needs no network.
#pragma once

#include <string>

#include "headlens/analysis/types.h"
#include "headlens/report/manifest.h"
#include "headlens/tasks/types.h"

namespace headlens {

/// The page: the circuit, a layer x head grid of every figure, maps of the found heads over their
/// tokens, entropy of all heads side by side, the manifest. Values come from the same numbers as
/// scores.json; maps are rounded to 1 / 32767 of their largest entry. ShapeError for a map that is
/// not square or does not fit its tokens, Error for numbers that are not finite.
std::string report_html(const FindResult& result, const TaskInfo& task, const Manifest& manifest);

}  // namespace headlens
