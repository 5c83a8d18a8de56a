// headlens/report: scores.json, schema headlens.scores/1.
#include "headlens/report/json_report.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/check.h"
#include "core/whole_file.h"
#include "report/scores_document.h"

namespace headlens {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kChannelKind = "mamba1";  // its entries are groups of channels

Json interval(const Estimate& estimate, const std::string& what) {
  return {finite_number(estimate.low, what + "'s lower end"),
          finite_number(estimate.high, what + "'s upper end")};
}

std::string figure_name(const HeadScore& s, const char* name) {
  return fmt::format("{} of layer {} head {}", name, s.head.layer, s.head.first);
}

void put(const HeadScore& s, const char* name, const std::optional<double>& value, Json& e) {
  if (value) e[name] = finite_number(*value, figure_name(s, name));
}

void put_ablation(const HeadScore& s, Json& e) {
  put(s, "accuracy", s.accuracy, e);
  if (s.accuracy_drop) {
    put(s, "accuracy_drop", s.accuracy_drop->value, e);
    e["accuracy_drop_ci"] = interval(*s.accuracy_drop, figure_name(s, "accuracy_drop"));
  }
  put(s, "logprob_drop", s.logprob_drop, e);
  if (s.near_ties) e["near_ties"] = *s.near_ties;
  if (s.examples) e["examples"] = *s.examples;
}

void put_screen(const HeadScore& s, Json& e) {
  put(s, "screen_drop", s.screen_drop, e);
  if (s.screen_place) e["screen_place"] = *s.screen_place;
  if (const auto& exact = s.screen_exact) {
    e["screen_exact"] = {
        {"examples", exact->examples},
        {"logprob_drop", finite_number(exact->logprob_drop, figure_name(s, "screen_exact"))},
        {"gradient_place", exact->gradient_place}};
  }
}

void put_map(const HeadScore& s, Json& e) {
  put(s, "entropy", s.map.entropy, e);
  put(s, "entropy_norm", s.map.entropy_norm, e);
  put(s, "row_mass", s.map.row_mass, e);
  put(s, "gather", s.map.gather, e);
  put(s, "gather_uniform", s.map.gather_uniform, e);
  put(s, "aggregate", s.map.aggregate, e);
  put(s, "aggregate_uniform", s.map.aggregate_uniform, e);
  put(s, "target", s.map.target, e);
  put(s, "target_uniform", s.map.target_uniform, e);
}

Json head_entry(const HeadScore& s) {
  Json e;
  e["layer"] = s.head.layer;
  e["head"] = s.head.first;
  e["kind"] = s.kind;
  if (s.kind == kChannelKind) e["channels"] = {s.head.first, s.head.last};
  put_ablation(s, e);
  put_screen(s, e);
  put(s, "drop_at_query", s.drop_at_query, e);
  put(s, "drop_elsewhere", s.drop_elsewhere, e);
  put(s, "drop_in_segments", s.drop_in_segments, e);
  put(s, "drop_reading_segments", s.drop_reading_segments, e);
  put_map(s, e);
  e["role"] = head_role_name(s.role);
  return e;
}

Json head_list(const std::vector<HeadId>& heads) {
  Json list = Json::array();
  for (const HeadId& h : heads) list.push_back({h.layer, h.first});
  return list;
}

/// [layer, first, last] of each, where some are groups of channels: [layer, first] cannot tell
/// those from single ones.
Json group_list(const std::vector<HeadId>& heads) {
  Json list = Json::array();
  for (const HeadId& h : heads) list.push_back({h.layer, h.first, h.last});
  return list;
}

bool has_groups(const FindResult& result) {
  return std::any_of(result.heads.begin(), result.heads.end(),
                     [](const HeadScore& s) { return s.kind == kChannelKind; });
}

Json base_entry(const BaseScore& b) {
  return {{"accuracy", finite_number(b.accuracy.value, "base accuracy")},
          {"accuracy_ci", interval(b.accuracy, "base accuracy")},
          {"mean_logprob", finite_number(b.mean_logprob, "base mean_logprob")},
          {"near_ties", b.near_ties},
          {"examples", b.examples}};
}

Json screen_entry(const ScreenSummary& s) {
  Json entry = {{"heads", s.heads}, {"chosen", s.chosen}, {"ablated", s.ablated}};
  if (s.shortlist > 0) {
    entry["shortlist"] = s.shortlist;
    entry["shortlist_examples"] = s.shortlist_examples;
  }
  if (s.rank_correlation) {
    entry["rank_correlation"] = finite_number(*s.rank_correlation, "the screen's rank correlation");
  }
  if (s.missed) entry["missed"] = head_list(*s.missed);
  return entry;
}

Json curve_entry(const SizeCurve& curve) {
  Json lines = Json::array();
  for (const CurveLine& line : curve.lines) {
    Json entry = {{"without", group_list(line.without)},
                  {"accuracy", Json::array()},
                  {"accuracy_ci", Json::array()}};
    for (const Estimate& accuracy : line.accuracy) {
      entry["accuracy"].push_back(finite_number(accuracy.value, "the curve's accuracy"));
      entry["accuracy_ci"].push_back(interval(accuracy, "the curve's accuracy"));
    }
    lines.push_back(std::move(entry));
  }
  return {{"task", curve.task},
          {"seed", curve.seed},
          {"sizes", curve.sizes},
          {"examples", curve.examples},
          {"lines", std::move(lines)}};
}

/// JSON that may stand inside a script element: no "</script>", no "<!--".
std::string script_safe(const std::string& json) {
  std::string text;
  text.reserve(json.size());
  for (const char c : json) {
    if (c == '<') {
      text += "\\u003c";
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace

double finite_number(double value, const std::string& what) {
  HEADLENS_CHECK(Error, std::isfinite(value), "[scores] {}, expected a finite number, got {}", what,
                 value);
  return value;
}

nlohmann::ordered_json model_document(const ModelSummary& m) {
  return {{"name", m.name},
          {"family", m.family},
          {"architecture", m.architecture},
          {"fingerprint", m.fingerprint},
          {"layers", m.layers},
          {"d_model", m.d_model},
          {"vocab_size", m.vocab_size},
          {"parameters", m.parameters},
          {"layer_kinds", m.layer_kinds},
          {"head_counts", m.head_counts}};
}

nlohmann::ordered_json task_document(const TaskInfo& t) {
  return {{"spec", t.spec},
          {"name", t.name},
          {"examples", t.examples},
          {"seed", t.seed},
          {"params", t.params}};
}

nlohmann::ordered_json manifest_document(const Manifest& m, const nlohmann::ordered_json& how) {
  Json entry = {{"headlens", m.headlens_version},
                {"git", m.git_revision},
                {"torch", m.torch_version},
                {"command", m.command},
                {"checkpoint", m.checkpoint},
                {"device", m.device},
                {"dtype", m.dtype},
                {"seed", m.seed},
                {"started", m.started},
                {"seconds", finite_number(m.seconds, "seconds")}};
  entry.update(how);
  entry["options"] = m.options;
  if (!m.certificate.empty()) entry["certificate"] = m.certificate;
  return entry;
}

nlohmann::ordered_json scores_document(const FindResult& result, const TaskInfo& task,
                                       const Manifest& manifest) {
  Json doc;
  doc["schema"] = "headlens.scores/1";
  doc["model"] = model_document(result.model);
  doc["task"] = task_document(task);
  doc["base"] = base_entry(result.base);
  doc["heads"] = Json::array();
  for (const HeadScore& s : result.heads) doc["heads"].push_back(head_entry(s));
  doc["circuit"] = {{"gather", head_list(result.gather)},
                    {"aggregate", head_list(result.aggregate)}};
  if (has_groups(result)) {
    doc["circuit_channels"] = {{"gather", group_list(result.gather)},
                               {"aggregate", group_list(result.aggregate)}};
  }
  if (result.screen) doc["screen"] = screen_entry(*result.screen);
  if (result.curve) doc["curve"] = curve_entry(*result.curve);
  doc["manifest"] =
      manifest_document(manifest, {{"mode", result.mode}, {"placement", result.placement}});
  return doc;
}

std::string json_text(const nlohmann::ordered_json& document, int indent) {
  return document.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string page_with(std::string_view page, const nlohmann::ordered_json& data) {
  constexpr std::string_view kMark = "@DATA@";
  std::string text(page);
  return text.replace(text.find(kMark), kMark.size(), script_safe(json_text(data, -1)));
}

std::string scores_json(const FindResult& result, const TaskInfo& task, const Manifest& manifest) {
  return json_text(scores_document(result, task, manifest), 2) + "\n";
}

void write_report_file(const std::filesystem::path& path, const std::string& text) {
  write_whole_file(path, text);
}

}  // namespace headlens
