// headlens/report: scores.csv, one line a head, for spreadsheets and data frames.
#pragma once

#include <string>

#include "headlens/analysis/types.h"

namespace headlens {

/// The text of scores.csv: a header line, then one line per entry of scores.json's `heads`, the
/// same figures; a figure that was not computed is an empty field. Channel groups fill `head_first`
/// and `head_last`.
std::string scores_csv(const FindResult& result);

}  // namespace headlens
