// headlens/cli: the claim about the shape of maps: C4, an SSM's heads beside a Transformer's.
#include <fmt/format.h>

#include "cli/claims.h"
#include "headlens/analysis/compare.h"

namespace headlens::cli {
namespace {

ComparedModel measured(Study& study, const std::string& model) {
  const std::string& task = study.flags().retrieval;
  const FindResult& found = study.found(model, task);
  ChosenHeads chosen;
  if (!found.gather.empty()) chosen.gather = found.gather.front();
  if (!found.aggregate.empty()) chosen.aggregate = found.aggregate.front();
  return measure_model(study.model(model), *study.fresh(model, task), chosen);
}

/// A summary of `compare`, and the sign of a difference that means smoother.
struct Sharpness {
  const char* summary;
  MapFigure figure;
  const char* what;
  double smoother;
};
constexpr Sharpness kSharpness[] = {
    {"aggregate_head", MapFigure::EntropyNorm, "Aggregate head, entropy / ln(keys) of its last row",
     1},
    {"gather_head", MapFigure::Gather, "Gather head, mass on its own segment at segment ends", -1}};

}  // namespace

Outcome smoother_maps(Study& study, const std::string& model) {
  const std::string& sharp = study.attention_model();
  Outcome outcome{.model = model};
  if (sharp.empty() || study.kinds(model) == study.kinds(sharp)) {
    outcome.why = sharp.empty() ? "no model with attention alone to compare with" : "no SSM layers";
    return outcome;
  }
  const Comparison compared = compare_models(measured(study, model), measured(study, sharp));
  bool smoother = false, sharper = false;
  for (const Sharpness& s : kSharpness) {
    for (const PairedDifference& d : compared.differences) {
      if (d.summary != s.summary || d.figure != s.figure) continue;
      outcome.figures.push_back({s.what, d.a});
      outcome.figures.push_back({fmt::format("{}'s", sharp), d.b});
      outcome.figures.push_back({"difference", d.difference});
      smoother = smoother || (s.smoother > 0 ? d.difference.low > 0 : d.difference.high < 0);
      sharper = sharper || (s.smoother > 0 ? d.difference.high < 0 : d.difference.low > 0);
    }
  }
  if (outcome.figures.empty()) {
    outcome.why = fmt::format("{} and {} have no role in common", sharp, model);
    return outcome;
  }
  outcome.verdict = smoother && !sharper ? Verdict::Holds : Verdict::DoesNotHold;
  outcome.why = fmt::format("against {}", sharp);
  return outcome;
}

}  // namespace headlens::cli
