// headlens/cli: what `reproduce` found, as JSON, as text and as one page.
#pragma once

#include <string>
#include <vector>

#include "cli/claims.h"
#include "cli/output.h"

namespace headlens::cli {

/// An outcome as it is kept in a journal and handed to other processes, and back.
Json outcome_json(const Outcome& outcome);
Outcome read_outcome(const Json& json);

/// A claim with its outcomes, one a model.
struct Tried {
  const Claim* claim = nullptr;
  std::vector<Outcome> outcomes;
};

/// What is the same for all of them; `seconds` of the whole command.
struct StudyInfo {
  Manifest manifest;
  StudyFlags flags;
};

Json study_json(const std::vector<Tried>& tried, const StudyInfo& info);
std::string study_text(const std::vector<Tried>& tried);
/// A page of its own: no script, nothing fetched, light and dark. All numbers are from `study`,
/// which study_json made.
std::string study_page(const Json& study);

}  // namespace headlens::cli
