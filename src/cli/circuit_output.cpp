// headlens/cli: what `circuit` found, as JSON and as text.
#include "cli/circuit_output.h"

#include <fmt/ranges.h>

#include "cli/heads.h"
#include "cli/table.h"

namespace headlens::cli {
namespace {

Json head_json(const HeadId& head) {
  if (head.first == head.last) return {head.layer, head.first};
  return {head.layer, head.first, head.last};
}

Json interval(const Estimate& e) {
  return {e.low, e.high};
}

void put(Json& json, const std::string& name, const Estimate& e) {
  json[name] = e.value;
  json[name + "_ci"] = interval(e);
}

Json figures_json(const SetFigures& f) {
  Json json;
  put(json, "accuracy", f.accuracy);
  put(json, "accuracy_drop", f.accuracy_drop);
  json["mean_logprob"] = f.mean_logprob;
  put(json, "logprob_drop", f.logprob_drop);
  json["share"] = f.share;
  return json;
}

Json set_json(const HeadSet& set) {
  Json json = {{"heads", heads_json(set.heads)}, {"reached", set.reached}};
  json.update(figures_json(set.figures));
  json["steps"] = Json::array();
  for (const CircuitStep& step : set.steps) {
    Json entry = {{"head", head_json(step.head)}};
    entry.update(figures_json(step.figures));
    json["steps"].push_back(std::move(entry));
  }
  return json;
}

Json smallest_json(const SmallestSet& set) {
  Json json = {{"heads", heads_json(set.heads)}, {"reached", set.reached}, {"proved", set.proved}};
  if (set.reached) json.update(figures_json(set.figures));
  return json;
}

Json drops_json(const std::vector<HeadDrop>& drops) {
  Json list = Json::array();
  for (const HeadDrop& drop : drops) {
    Json entry = {{"head", head_json(drop.head)}};
    put(entry, "logprob_drop", drop.logprob_drop);
    put(entry, "accuracy_drop", drop.accuracy_drop);
    list.push_back(std::move(entry));
  }
  return list;
}

Json effect_json(const PathEffect& effect) {
  Json json;
  put(json, "logprob_drop", effect.logprob_drop);
  put(json, "accuracy_drop", effect.accuracy_drop);
  if (effect.of_receiver) put(json, "share_of_receiver", *effect.of_receiver);
  if (effect.of_sender) put(json, "share_of_sender", *effect.of_sender);
  return json;
}

std::string heads_text(const std::vector<HeadId>& heads) {
  std::vector<std::string> words;
  for (const HeadId& head : heads) words.push_back(head_text(head));
  return words.empty() ? "none" : fmt::format("{}", fmt::join(words, ", "));
}

Table figures_table() {
  return Table({"<", "accuracy", "95 %", "log-prob.", "share"});
}

void add_figures(Table& table, const std::string& name, const SetFigures& f) {
  table.add({name, fmt::format("{:.3f}", f.accuracy.value), interval_text(f.accuracy),
             fmt::format("{:.3f}", f.mean_logprob), fmt::format("{:.3f}", f.share)});
}

std::string steps_text(const std::string& title, const char* sign, const HeadSet& set,
                       const char* goal) {
  Table table = figures_table();
  for (const CircuitStep& step : set.steps) {
    add_figures(table, sign + head_text(step.head), step.figures);
  }
  return title + "\n" + (table.empty() ? "" : table.text()) +
         fmt::format("  {}{}: {}\n", set.reached ? "" : "not ", goal, heads_text(set.heads));
}

std::string smallest_text(const char* what, const SmallestSet& set) {
  if (!set.reached) {
    return fmt::format("{}: {} (--candidates takes more in)\n", what,
                       set.proved ? "no set of candidates does" : "no set that was tried");
  }
  Table table = figures_table();
  add_figures(table, "", set.figures);
  return fmt::format(
             "{}: {} ({} heads; {})\n", what, heads_text(set.heads), set.heads.size(),
             set.proved ? "no smaller set of candidates does" : "smaller sets were not all tried") +
         table.text();
}

std::string nats(const Estimate& e) {
  return fmt::format("{:.3f} {}", e.value, interval_text(e));
}

std::string share(const std::optional<Estimate>& e) {
  return e ? nats(*e) : "-";
}

}  // namespace

Json heads_json(const std::vector<HeadId>& heads) {
  Json list = Json::array();
  for (const HeadId& head : heads) list.push_back(head_json(head));
  return list;
}

Json minimal_json(const CircuitResult& r) {
  Json candidates = Json::array();
  for (const Candidate& candidate : r.candidates) {
    Json entry = {{"head", head_json(candidate.head)}};
    put(entry, "accuracy_drop", candidate.accuracy_drop);
    put(entry, "logprob_drop", candidate.logprob_drop);
    candidates.push_back(std::move(entry));
  }
  return {{"base", figures_json(r.base)},
          {"without", figures_json(r.without)},
          {"only_candidates", figures_json(r.only_candidates)},
          {"candidates", candidates},
          {"removal", set_json(r.removal)},
          {"addition", set_json(r.addition)},
          {"carries", smallest_json(r.carries)},
          {"cutting", set_json(r.cutting)},
          {"breaks", smallest_json(r.breaks)},
          {"sets_run", r.sets_run}};
}

Json pairs_json(const PathPatching& r) {
  Json pairs = Json::array();
  for (const PairEffect& pair : r.pairs) {
    pairs.push_back({{"sender", head_json(pair.sender)},
                     {"receiver", head_json(pair.receiver)},
                     {"direct", effect_json(pair.direct)},
                     {"total", effect_json(pair.total)}});
  }
  Json answers = Json::array();
  for (const AnswerPath& path : r.answers) {
    answers.push_back({{"sender", head_json(path.sender)}, {"direct", effect_json(path.direct)}});
  }
  return {{"base", {{"accuracy", r.base.accuracy()}, {"mean_logprob", r.base.mean_logprob()}}},
          {"answers", answers},
          {"senders", drops_json(r.senders)},
          {"receivers", drops_json(r.receivers)},
          {"pairs", pairs}};
}

Json repair_json(const std::vector<SelfRepair>& repairs) {
  Json list = Json::array();
  for (const SelfRepair& r : repairs) {
    Json entry = {{"head", head_json(r.head)}};
    put(entry, "total", r.total);
    put(entry, "own", r.own);
    put(entry, "heads", r.heads);
    put(entry, "mlps", r.mlps);
    put(entry, "norm", r.norm);
    if (r.repaired) put(entry, "repaired", *r.repaired);
    entry["top"] = Json::array();
    for (const HeadChange& change : r.top) {
      Json one = {{"head", head_json(change.head)}};
      put(one, "change", change.change);
      entry["top"].push_back(std::move(one));
    }
    list.push_back(std::move(entry));
  }
  return list;
}

std::string minimal_text(const CircuitResult& r) {
  Table table = figures_table();
  add_figures(table, "untouched", r.base);
  add_figures(table, "no head", r.without);
  add_figures(table, fmt::format("{} candidates only", r.candidates.size()), r.only_candidates);
  std::string text = table.text();
  text += steps_text("kept, taken out one by one", "- ", r.removal, "carried by");
  text += steps_text("kept, put in one by one", "+ ", r.addition, "carried by");
  text += steps_text("cut one by one", "x ", r.cutting, "broken by the cut of");
  text += smallest_text("smallest set that carries the task", r.carries);
  text += smallest_text("smallest set whose cut breaks it", r.breaks);
  return text + fmt::format("{} sets were run\n", r.sets_run);
}

std::string pairs_text(const PathPatching& r) {
  Table table(
      {"sender", "receiver", "<path", "drop, nats [95 %]", "of the receiver's", "of the sender's"});
  for (const PairEffect& pair : r.pairs) {
    for (const bool direct : {true, false}) {
      const PathEffect& effect = direct ? pair.direct : pair.total;
      table.add({head_text(pair.sender), head_text(pair.receiver), direct ? "direct" : "total",
                 nats(effect.logprob_drop), share(effect.of_receiver), share(effect.of_sender)});
    }
  }
  for (const AnswerPath& path : r.answers) {
    table.add({head_text(path.sender), "logits", "direct", nats(path.direct.logprob_drop), "-",
               share(path.direct.of_sender)});
  }
  return table.text();
}

std::string repair_text(const std::vector<SelfRepair>& repairs) {
  std::string text;
  for (const SelfRepair& r : repairs) {
    Table table({"<change of", "logit difference [95 %]"});
    table.add({"all", nats(r.total)});
    table.add({"the head itself", nats(r.own)});
    table.add({"other heads", nats(r.heads)});
    table.add({"MLPs", nats(r.mlps)});
    table.add({"final norm", nats(r.norm)});
    for (const HeadChange& change : r.top) {
      table.add({"head " + head_text(change.head), nats(change.change)});
    }
    text += fmt::format("cut {}\n", head_text(r.head)) + table.text();
    if (r.repaired) text += fmt::format("  other heads make up {}\n", share(r.repaired));
  }
  return text;
}

}  // namespace headlens::cli
