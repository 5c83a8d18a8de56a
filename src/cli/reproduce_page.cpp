// headlens/cli: the outcomes of `reproduce`, written three ways.
#include "cli/reproduce_page.h"

#include <fmt/format.h>

#include "cli/table.h"

namespace headlens::cli {
namespace {

Ink ink_of(Verdict verdict) {
  return verdict == Verdict::Holds         ? Ink::Good
         : verdict == Verdict::DoesNotHold ? Ink::Bad
                                           : Ink::Faint;
}

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::Holds:
      return "holds";
    case Verdict::DoesNotHold:
      return "does not hold here";
    case Verdict::NotRun:
      return "not run";
  }
  return "";
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    out += c == '<'   ? "&lt;"
           : c == '>' ? "&gt;"
           : c == '&' ? "&amp;"
           : c == '"' ? "&quot;"
                      : std::string(1, c);
  }
  return out;
}

std::string cell(const Json& value) {
  return escaped(value.is_string() ? value.get<std::string>()
                                   : fmt::format("{:.3f}", value.get<double>()));
}

constexpr const char* kStyle = R"(:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 0.4rem 0 1rem; }
th, td { text-align: left; padding: 0.15rem 0.8rem 0.15rem 0; border-bottom: 1px solid #8884; }
td { overflow-wrap: anywhere; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
@media (max-width: 600px) { td.number { white-space: normal; } }
.verdict { font-weight: 600; }
.small { color: #5c6169; }
@media (prefers-color-scheme: dark) { .small { color: #a3a8b0; } }
)";

/// ", 17.3 GiB"; nothing for 0.
std::string memory_text(int64_t bytes) {
  if (bytes == 0) return "";
  return fmt::format(", {:.1f} GiB", static_cast<double>(bytes) / (1024.0 * 1024 * 1024));
}

std::string outcome_section(const Json& outcome) {
  std::string html = fmt::format(
      "<h3>{}: <span class=\"verdict\">{}</span></h3>\n<p class=\"small\">{} ({:.1f} s{})</p>\n",
      cell(outcome["model"]), cell(outcome["verdict"]), cell(outcome["why"]),
      outcome["seconds"].get<double>(), memory_text(outcome["peak_bytes"]));
  if (outcome["figures"].empty()) return html;
  html += "<table><tr><th>figure</th><th>here (95 %)</th><th>the study</th></tr>\n";
  for (const Json& figure : outcome["figures"]) {
    html += fmt::format(
        "<tr><td>{}</td><td class=\"number\">{} ({} to {})</td><td class=\"number\">{}</td></tr>\n",
        cell(figure["what"]), cell(figure["value"]), cell(figure["ci"][0]), cell(figure["ci"][1]),
        figure.contains("paper") ? cell(figure["paper"]) : "");
  }
  return html + "</table>\n";
}

}  // namespace

Json outcome_json(const Outcome& outcome) {
  Json figures = Json::array();
  for (const Figure& figure : outcome.figures) {
    Json one = {{"what", figure.what},
                {"value", figure.ours.value},
                {"ci", {figure.ours.low, figure.ours.high}}};
    if (!figure.paper.empty()) one["paper"] = figure.paper;
    figures.push_back(std::move(one));
  }
  return {{"model", outcome.model},
          {"verdict", verdict_name(outcome.verdict)},
          {"why", outcome.why},
          {"seconds", outcome.seconds},
          {"peak_bytes", outcome.peak_bytes},
          {"figures", std::move(figures)}};
}

Outcome read_outcome(const Json& json) {
  Outcome outcome{.model = json["model"], .why = json["why"], .seconds = json["seconds"]};
  outcome.peak_bytes = json["peak_bytes"];
  for (const Verdict verdict : {Verdict::Holds, Verdict::DoesNotHold, Verdict::NotRun}) {
    if (json["verdict"] == verdict_name(verdict)) outcome.verdict = verdict;
  }
  for (const Json& figure : json["figures"]) {
    const Json& ci = figure["ci"];
    outcome.figures.push_back(
        {figure["what"], {figure["value"], ci[0], ci[1]}, figure.value("paper", std::string())});
  }
  return outcome;
}

Json study_json(const std::vector<Tried>& tried, const StudyInfo& info) {
  Json claims = Json::array();
  for (const Tried& one : tried) {
    Json outcomes = Json::array();
    for (const Outcome& outcome : one.outcomes) outcomes.push_back(outcome_json(outcome));
    claims.push_back({{"id", one.claim->id},
                      {"claim", one.claim->says},
                      {"rule", one.claim->rule},
                      {"study_ran_it_on", one.claim->checkpoint},
                      {"outcomes", std::move(outcomes)}});
  }
  const Manifest& m = info.manifest;
  return {{"schema", "headlens.study/1"},
          {"manifest",
           {{"headlens", m.headlens_version},
            {"revision", m.git_revision},
            {"torch", m.torch_version},
            {"command", m.command},
            {"device", m.device},
            {"dtype", m.dtype},
            {"seed", m.seed},
            {"started", m.started},
            {"seconds", m.seconds}}},
          {"tasks",
           {{"retrieval", info.flags.retrieval},
            {"knowledge", info.flags.knowledge},
            {"related", info.flags.related},
            {"dictionaries", info.flags.dictionaries},
            {"pairs", info.flags.pairs}}},
          {"claims", std::move(claims)}};
}

std::string study_text(const std::vector<Tried>& tried) {
  std::string text;
  for (const Tried& one : tried) {
    text += fmt::format("{}  {}\n", one.claim->id, one.claim->says);
    for (const Outcome& outcome : one.outcomes) {
      text +=
          fmt::format("  {}: {}  {}\n", painted(Ink::Strong, outcome.model),
                      painted(ink_of(outcome.verdict), verdict_name(outcome.verdict)), outcome.why);
      Table figures({"<figure", "here", "95 %", "<the study"});
      for (const Figure& f : outcome.figures) {
        figures.add({f.what, fmt::format("{:.3f}", f.ours.value), interval_text(f.ours), f.paper});
      }
      if (!figures.empty()) text += figures.text();
    }
  }
  return text;
}

std::string study_page(const Json& study) {
  const Json& manifest = study["manifest"];
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta "
      "name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>HeadLens: the "
      "study's "
      "claims</title>\n<style>{}</style></head>\n<body>\n<h1>The study's claims, tried here</h1>\n"
      "<p>Claims of arXiv 2504.18574. The study's figures are of its own models; a verdict is "
      "about the "
      "model it stands beside and follows the rule under its claim.</p>\n",
      kStyle);
  for (const Json& claim : study["claims"]) {
    html += fmt::format("<h2>{}. {}</h2>\n<p class=\"small\">Rule: {}. The study: {}.</p>\n",
                        cell(claim["id"]), cell(claim["claim"]), cell(claim["rule"]),
                        cell(claim["study_ran_it_on"]));
    for (const Json& outcome : claim["outcomes"]) html += outcome_section(outcome);
  }
  return html + fmt::format(
                    "<p class=\"small\">{}<br>HeadLens {} {}, LibTorch {}, {} {}, seed {}, {}, "
                    "{:.0f} s</p>\n"
                    "</body></html>\n",
                    cell(manifest["command"]), cell(manifest["headlens"]),
                    cell(manifest["revision"]), cell(manifest["torch"]), cell(manifest["device"]),
                    cell(manifest["dtype"]), manifest["seed"].get<uint64_t>(),
                    cell(manifest["started"]), manifest["seconds"].get<double>());
}

}  // namespace headlens::cli
