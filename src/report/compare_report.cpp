// headlens/report: compare.json, compare.csv and compare.html.
#include "headlens/report/compare_report.h"

#include <cmath>
#include <utility>

#include "core/check.h"
#include "report/report_page.h"
#include "report/scores_document.h"

namespace headlens {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kChannelKind = "mamba1";  // its entries are groups of channels

void put(Json& entry, const std::string& name, const Estimate& e, const std::string& what) {
  entry[name] = finite_number(e.value, what);
  entry[name + "_ci"] = {finite_number(e.low, what + "'s lower end"),
                         finite_number(e.high, what + "'s upper end")};
}

Json spread_entry(const Spread& s) {
  return {{"mean", finite_number(s.mean, "mean")},
          {"q05", s.q05},
          {"q25", s.q25},
          {"q50", s.q50},
          {"q75", s.q75},
          {"q95", s.q95}};
}

void put_spreads(Json& entry, const FigureSpreads& spreads) {
  for (size_t f = 0; f < kMapFigures; ++f) {
    if (spreads[f]) entry[kMapFigureNames[f]] = spread_entry(*spreads[f]);
  }
}

Json head_entry(const HeadValues& head) {
  Json entry = {{"layer", head.head.layer}, {"head", head.head.first}, {"kind", head.kind}};
  if (head.kind == kChannelKind) entry["channels"] = {head.head.first, head.head.last};
  return entry;
}

Json model_entry(const ComparedModel& m) {
  HEADLENS_CHECK(
      ShapeError,
      m.head_spreads.size() == m.heads.size() && std::ssize(m.layer_spreads) == m.model.layers,
      "[compare] spreads, expected those of {} heads and {} layers, got {} and {}", m.heads.size(),
      m.model.layers, m.head_spreads.size(), m.layer_spreads.size());
  Json entry = {{"model", model_document(m.model)}};
  if (m.gather) entry["gather"] = head_entry(*m.gather);
  if (m.aggregate) entry["aggregate"] = head_entry(*m.aggregate);
  entry["heads"] = Json::array();
  for (size_t h = 0; h < m.heads.size(); ++h) {
    Json head = head_entry(m.heads[h]);
    put_spreads(head, m.head_spreads[h]);
    entry["heads"].push_back(std::move(head));
  }
  entry["layers"] = Json::array();
  for (size_t layer = 0; layer < m.layer_spreads.size(); ++layer) {
    Json spreads = {{"layer", layer}};
    put_spreads(spreads, m.layer_spreads[layer]);
    entry["layers"].push_back(std::move(spreads));
  }
  return entry;
}

Json difference_entry(const PairedDifference& d) {
  const char* figure = kMapFigureNames[static_cast<size_t>(d.figure)];
  const std::string what = fmt::format("{} of {}", figure, d.summary);
  Json entry = {{"summary", d.summary}, {"figure", figure}, {"examples", d.examples}};
  put(entry, "a", d.a, what + " in A");
  put(entry, "b", d.b, what + " in B");
  put(entry, "difference", d.difference, what + ", difference");
  return entry;
}

Json compare_document(const Comparison& c, const TaskInfo& task, const Manifest& manifest) {
  Json doc = {{"schema", "headlens.compare/1"}, {"task", task_document(task)},
              {"examples", c.examples},         {"depth_bins", c.depth_bins},
              {"a", model_entry(c.a)},          {"b", model_entry(c.b)},
              {"differences", Json::array()}};
  for (const PairedDifference& d : c.differences) {
    doc["differences"].push_back(difference_entry(d));
  }
  doc["manifest"] = manifest_document(manifest, Json::object());
  return doc;
}

void add_lines(std::string& text, const char* which, const ComparedModel& model) {
  for (const HeadValues& head : model.heads) {
    for (Eigen::Index example = 0; example < head.values.cols(); ++example) {
      text += fmt::format("{},{},{},{},{},{}", which, head.head.layer, head.head.first,
                          head.head.last, head.kind, example);
      for (Eigen::Index f = 0; f < head.values.rows(); ++f) {
        const double value = head.values(f, example);
        text += std::isnan(value) ? std::string(",") : fmt::format(",{}", value);
      }
      text += '\n';
    }
  }
}

}  // namespace

std::string compare_json(const Comparison& comparison, const TaskInfo& task,
                         const Manifest& manifest) {
  return json_text(compare_document(comparison, task, manifest), 2) + "\n";
}

std::string compare_csv(const Comparison& comparison) {
  std::string text = "model,layer,head_first,head_last,kind,example";
  for (const char* name : kMapFigureNames) text += std::string(",") + name;
  text += '\n';
  add_lines(text, "a", comparison.a);
  add_lines(text, "b", comparison.b);
  return text;
}

std::string compare_html(const Comparison& comparison, const TaskInfo& task,
                         const Manifest& manifest) {
  return page_with(kComparePage, compare_document(comparison, task, manifest));
}

}  // namespace headlens
