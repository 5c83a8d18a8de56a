// headlens/analysis: results of work items as bytes, every bit of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/analysis/screening.h"
#include "headlens/analysis/types.h"
#include "headlens/model/objective.h"

namespace headlens {

/// Verdicts [variant][example] of one batch.
using VerdictTable = std::vector<std::vector<Verdict>>;

std::string verdict_bytes(const VerdictTable& table);
/// Error unless the bytes hold `variants` x `examples` verdicts.
VerdictTable read_verdicts(std::string_view bytes, size_t variants, size_t examples);

std::string figure_bytes(const std::vector<MapFigures>& figures);
/// Error unless the bytes hold the figures of `heads` heads.
std::vector<MapFigures> read_figures(std::string_view bytes, size_t heads);

std::string estimate_bytes(const ScreenEstimates& estimates);
/// Error unless the bytes hold whole entries.
ScreenEstimates read_estimates(std::string_view bytes);

}  // namespace headlens
