// headlens/cli: the claim about the shape of maps: C4, an SSM's heads beside a Transformer's.
#include <fmt/format.h>

#include <cmath>

#include "cli/claims.h"
#include "headlens/analysis/map_figures.h"

namespace headlens::cli {
namespace {

constexpr int64_t kParts = 10;

/// One head's figure in each of kParts parts of the examples, the same parts for every model.
std::vector<double> by_part(Study& study, const std::string& model, const HeadId& head,
                            std::optional<double> MapFigures::*figure) {
  const auto whole = study.fresh(model, study.flags().retrieval);
  std::vector<double> values;
  for (int64_t p = 0; p < kParts; ++p) {
    std::vector<int64_t> examples;
    for (int64_t e = p; e < whole->example_count(); e += kParts) examples.push_back(e);
    const auto part = whole->part(examples);
    values.push_back((map_figures(study.model(model), *part, {head})[0].*figure).value_or(0));
  }
  return values;
}

/// Mean of a - b with its 95 % interval over the parts (Student's t, 9 degrees of freedom).
Estimate paired(const std::vector<double>& a, const std::vector<double>& b) {
  constexpr double kStudent = 2.262;
  const auto n = static_cast<double>(a.size());
  double mean = 0, squares = 0;
  for (size_t i = 0; i < a.size(); ++i) mean += (a[i] - b[i]) / n;
  for (size_t i = 0; i < a.size(); ++i) squares += std::pow(a[i] - b[i] - mean, 2);
  const double half = kStudent * std::sqrt(squares / (n - 1) / n);
  return {mean, mean - half, mean + half};
}

Estimate mean_of(const std::vector<double>& values) {
  return paired(values, std::vector<double>(values.size(), 0));
}

struct Sharpness {
  const char* role;
  std::vector<HeadId> FindResult::*heads;
  std::optional<double> MapFigures::*figure;
  const char* what;
  double smoother;  // the sign of a difference that means smoother
};

}  // namespace

Outcome smoother_maps(Study& study, const std::string& model) {
  const std::string& sharp = study.attention_model();
  Outcome outcome{.model = model};
  if (sharp.empty() || study.kinds(model) == study.kinds(sharp)) {
    outcome.why = sharp.empty() ? "no model with attention alone to compare with" : "no SSM layers";
    return outcome;
  }
  const std::string& task = study.flags().retrieval;
  const FindResult &theirs = study.found(sharp, task), &ours = study.found(model, task);
  bool smoother = false, sharper = false;
  for (const Sharpness& s :
       {Sharpness{"Aggregate", &FindResult::aggregate, &MapFigures::entropy_norm,
                  "entropy / ln(keys) of its last row", 1},
        Sharpness{"Gather", &FindResult::gather, &MapFigures::gather,
                  "mass on its own segment at segment ends", -1}}) {
    if ((theirs.*s.heads).empty() || (ours.*s.heads).empty()) continue;
    const auto a = by_part(study, model, (ours.*s.heads).front(), s.figure);
    const auto b = by_part(study, sharp, (theirs.*s.heads).front(), s.figure);
    const Estimate more = paired(a, b);
    outcome.figures.push_back({fmt::format("{} head, {}", s.role, s.what), mean_of(a)});
    outcome.figures.push_back({fmt::format("{}'s", sharp), mean_of(b)});
    outcome.figures.push_back({"difference", more});
    smoother = smoother || (s.smoother > 0 ? more.low > 0 : more.high < 0);
    sharper = sharper || (s.smoother > 0 ? more.high < 0 : more.low > 0);
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
