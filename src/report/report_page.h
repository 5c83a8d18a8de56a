// headlens/report: the pages that report.html and compare.html are filled into.
#pragma once

#include <string_view>

namespace headlens {

/// page/report.html and page/compare.html with their parts in them, the place of their data still
/// marked.
extern const std::string_view kReportPage;
extern const std::string_view kComparePage;

}  // namespace headlens
