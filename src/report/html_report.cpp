// headlens/report: report.html, one self-contained page that needs no network.
#include "headlens/report/html_report.h"

#include "report/maps_document.h"
#include "report/report_page.h"
#include "report/scores_document.h"

namespace headlens {

std::string report_html(const FindResult& result, const TaskInfo& task, const Manifest& manifest,
                        const MapLimits& limits) {
  return page_with(kReportPage, {{"scores", scores_document(result, task, manifest)},
                                 {"maps", maps_document(result, manifest, limits)}});
}

}  // namespace headlens
