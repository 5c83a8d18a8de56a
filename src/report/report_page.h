// headlens/report: the page that report.html is filled into.
#pragma once

#include <string_view>

namespace headlens {

/// report_page.html, with the place of its data still marked.
extern const std::string_view kReportPage;

}  // namespace headlens
