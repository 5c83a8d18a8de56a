// headlens/cli: the claims that ask what a task loses: C1, C2, C3, C5, C7, and the list of all.
#include "cli/claims.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "analysis/paired_means.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/estimates.h"
#include "headlens/analysis/pruning.h"
#include "headlens/tasks/generative.h"

namespace headlens::cli {
namespace {

constexpr double kGuessing = 0.1;  // accuracy above chance that still counts as guessing
constexpr double kAlone = 0.05;    // drop that still counts as left alone
constexpr double kLoses = 0.05;    // drop that at least counts as a loss

std::string head_name(const HeadId& head) {
  if (head.first == head.last) return fmt::format("{}.{}", head.layer, head.first);
  return fmt::format("{}.{}-{}", head.layer, head.first, head.last);
}

std::string heads_name(const std::vector<HeadId>& heads) {
  std::string text;
  for (const HeadId& head : heads) text += (text.empty() ? "" : ", ") + head_name(head);
  return text;
}

SweepResult cut(Study& study, const std::string& model, const std::string& task,
                const std::vector<SweepTarget>& targets) {
  const auto objective = study.fresh(model, task);
  return sweep_targets(study.model(model), *objective, targets, study.sweep(model));
}

Outcome decided(const std::string& model, bool holds, std::string why,
                std::vector<Figure> figures) {
  return {.model = model,
          .verdict = holds ? Verdict::Holds : Verdict::DoesNotHold,
          .why = std::move(why),
          .figures = std::move(figures)};
}

/// A related task with all heads and without some, and what an answer at random comes to.
struct Related {
  SweepOutcome whole, without;
  double floor = 0;
};

/// Of answers that are written no guess is counted: their floor is 0.
Related related_task(Study& study, const std::string& model, const std::string& task,
                     const std::vector<HeadId>& heads) {
  if (is_generative_task(task)) {
    return {study.written(model, task, {}), study.written(model, task, heads)};
  }
  SweepResult swept = cut(study, model, task, {{.heads = heads}});
  return {std::move(swept.base), std::move(swept.variants[0]), study.chance(model, task)};
}

/// Every layer's heads of the kinds that `attention` says lose what the last row reads from
/// segments.
SweepTarget hidden_context(const ModelConfig& config, bool attention) {
  SweepTarget target;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    for (const HeadBank& bank : head_banks(config.layers[static_cast<size_t>(layer)])) {
      if ((bank.kind == LayerKind::Attention) != attention) continue;
      MapCut maps{.layer = layer};
      for (int64_t h = 0; h < bank.count; ++h) maps.heads.push_back(bank.first + h);
      target.maps.push_back(std::move(maps));
    }
  }
  return target;
}

/// What attention loses of what both kinds lose, each alone: sum of its drops over the sum of both,
/// over the same examples, with the interval of a ratio of paired means (the delta method). Left
/// out where the interval of the sum of both reaches 0.
void add_share(const char* what, const std::vector<double>& attention,
               const std::vector<double>& ssm, std::vector<Figure>& figures) {
  std::vector<double> both = attention;
  for (size_t i = 0; i < both.size(); ++i) both[i] += ssm[i];
  if (both.size() < 2 || mean_estimate(both).low <= 0) return;
  figures.push_back(
      {fmt::format("attention's share of both drops, {}", what), ratio_estimate(attention, both)});
}

/// [example] 1: lost, -1: won
std::vector<double> answers_lost(const SweepOutcome& base, const SweepOutcome& cut) {
  std::vector<double> lost;
  for (size_t i = 0; i < base.verdicts.size(); ++i) {
    lost.push_back(static_cast<double>(base.verdicts[i].correct) -
                   static_cast<double>(cut.verdicts[i].correct));
  }
  return lost;
}

const std::vector<Claim> kAllClaims = {
    {"C1",
     "One Gather or Aggregate head off takes answers by letter to guessing and leaves knowledge "
     "alone",
     "one of the two strongest heads: accuracy without it at most chance + 0.10, the knowledge "
     "task's drop at "
     "most 0.05, both by the far ends of their 95 % intervals",
     "Llama-3.1-8B-Instruct, cut above the Aggregate head; MMLU", one_head_off},
    {"C2", "A model cut to the layers that retrieval needs keeps it and fails knowledge tests",
     "fewer layers than the whole model keep the retrieval task within 0.05, and with them the "
     "knowledge task "
     "loses at least 0.05 by the near end of its interval",
     "Llama-3.1-8B-Instruct; MMLU against ARC, PIQA, Winogrande, HellaSwag, OpenBookQA",
     minimal_model},
    {"C3", "Other tasks that retrieve depend on the same heads",
     "without both heads every related task that the whole model does (accuracy above chance, or "
     "above 0 where answers are written, by more than 0.05 at the near end) loses at least 0.05 "
     "by the near end of its interval, and the knowledge task at most 0.05 by the far end",
     "Llama-3.1-8B-Instruct; GSM8K, BBH, dialogue", same_heads},
    {"C4", "The Gather and Aggregate heads of SSMs are smoother than those of Transformers",
     "against the first model with attention only: the Aggregate head's row has the higher "
     "entropy, or the Gather "
     "head has less of its mass on its segment, and neither is the other way round, by 95 % "
     "intervals",
     "Llama-3.1-8B-Instruct and Llamba-8B or Falcon-Mamba-7B-instruct", smoother_maps},
    {"C5", "Hybrids give the Aggregate role to attention",
     "hiding the segments from the last row costs more in all attention layers than in all SSM "
     "layers, by the 95 % "
     "interval of the difference",
     "Zamba2-7B; MMLU", aggregate_in_attention},
    {"C6", "Grafting one attention layer or head into an SSM lifts retrieval",
     "the layer or head of the first model with attention only that is best on other examples, "
     "of "
     "the task (letters, dictionaries) where that model is furthest ahead, lifts accuracy by at "
     "least 0.05 by the near end of its interval; tried where the SSM was distilled from it",
     "Llamba-8B with a layer of Llama-3.1-8B", grafts},
    {"C7",
     "Dictionaries of any size need the head; accuracy falls with their size, and with a smaller "
     "state",
     "at every number of pairs accuracy drops without the head, by the near end of its interval",
     "Llama-3.1-8B-Instruct, Falcon-Mamba-7B-instruct", dictionaries},
};

}  // namespace

Outcome not_run(const std::string& model, std::string why) {
  return {.model = model, .verdict = Verdict::NotRun, .why = std::move(why)};
}

Outcome one_head_off(Study& study, const std::string& model) {
  const StudyFlags& flags = study.flags();
  const std::vector<HeadId> heads = study.strongest(model, flags.retrieval);
  if (heads.empty()) {
    return decided(model, false, "no head is needed alone where heads were looked for", {});
  }
  const SweepResult letters = cut(study, model, flags.retrieval, one_each(heads));
  const SweepResult facts = cut(study, model, flags.knowledge, one_each(heads));
  const double chance = study.chance(model, flags.retrieval);
  std::vector<Figure> figures = {
      {flags.retrieval + ", whole", accuracy_estimate(letters.base), "0.66"}};
  bool holds = false;
  for (size_t h = 0; h < heads.size(); ++h) {
    const std::string off = fmt::format("without {}", head_name(heads[h]));
    const Estimate after = accuracy_estimate(letters.variants[h]);
    const Estimate lost = accuracy_drop(facts.base, facts.variants[h]);
    figures.push_back({fmt::format("{}, {}", flags.retrieval, off), after, "0.25"});
    figures.push_back({fmt::format("{}, drop {}", flags.knowledge, off), lost, "near 0"});
    holds = holds || (after.high <= chance + kGuessing && lost.high <= kAlone);
  }
  return decided(model, holds, fmt::format("heads {}; chance {:.3f}", heads_name(heads), chance),
                 std::move(figures));
}

Outcome minimal_model(Study& study, const std::string& model) {
  const StudyFlags& flags = study.flags();
  const auto letters = study.fresh(model, flags.retrieval);
  const auto facts = study.fresh(model, flags.knowledge);
  const std::vector<SweepOutcome> curve = depth_curve(study.model(model), *letters);
  const std::optional<int64_t> layers = minimal_depth({curve}, DepthRule{});
  const int64_t all = std::ssize(curve) - 1;
  std::vector<Figure> figures;
  for (int64_t k = 0; k <= all; ++k) {
    figures.push_back({fmt::format("{}, first {} layers", flags.retrieval, k),
                       accuracy_estimate(curve[static_cast<size_t>(k)])});
  }
  if (!layers || *layers == all) {
    return decided(model, false, fmt::format("all {} layers are needed", all), std::move(figures));
  }
  const std::vector<SweepOutcome> known = depth_curve(study.model(model), *facts);
  const Estimate lost = accuracy_drop(known.back(), known[static_cast<size_t>(*layers)]);
  figures.push_back({flags.knowledge + ", whole", accuracy_estimate(known.back())});
  figures.push_back({fmt::format("{}, drop with {} layers", flags.knowledge, *layers), lost});
  return decided(model, lost.low >= kLoses, fmt::format("{} of {} layers are enough", *layers, all),
                 std::move(figures));
}

Outcome same_heads(Study& study, const std::string& model) {
  const StudyFlags& flags = study.flags();
  const std::vector<HeadId> heads = study.strongest(model, flags.retrieval);
  if (heads.empty()) return not_run(model, "no head is needed alone where heads were looked for");
  std::vector<Figure> figures;
  std::vector<std::string> at_floor;
  bool all_lose = true;
  for (const std::string& task : flags.related) {
    const Related related = related_task(study, model, task, heads);
    const Estimate whole = accuracy_estimate(related.whole);
    const Estimate lost = accuracy_drop(related.whole, related.without);
    figures.push_back({task + ", whole", whole});
    figures.push_back({task + ", drop without them", lost});
    const bool can_lose = whole.low > related.floor + kLoses;
    if (!can_lose) at_floor.push_back(task);
    all_lose = all_lose && (!can_lose || lost.low >= kLoses);
  }
  std::string why = fmt::format("heads {} of {}, off together", heads_name(heads), flags.retrieval);
  if (!at_floor.empty()) why += fmt::format("; at the floor: {}", fmt::join(at_floor, ", "));
  if (at_floor.size() == flags.related.size()) {
    Outcome outcome = not_run(model, why + ": nothing is left to lose");
    outcome.figures = std::move(figures);
    return outcome;
  }
  const SweepResult facts = cut(study, model, flags.knowledge, {{.heads = heads}});
  const Estimate lost = accuracy_drop(facts.base, facts.variants[0]);
  figures.push_back({flags.knowledge + ", drop without them", lost});
  return decided(model, all_lose && lost.high <= kAlone, std::move(why), std::move(figures));
}

Outcome aggregate_in_attention(Study& study, const std::string& model) {
  const std::vector<std::string> kinds = study.kinds(model);
  const bool attends = std::find(kinds.begin(), kinds.end(), "attention") != kinds.end();
  if (!attends || kinds.size() < 2) return not_run(model, "no hybrid of attention and SSM layers");
  const ModelConfig& config = study.model(model).config();
  const std::string& task = study.flags().retrieval;
  const SweepResult swept =
      cut(study, model, task, {hidden_context(config, true), hidden_context(config, false)});
  const SweepOutcome &attention = swept.variants[0], &ssm = swept.variants[1];
  const Estimate more = accuracy_drop(ssm, attention);
  std::vector<Figure> figures = {
      {task + ", whole", accuracy_estimate(swept.base), "0.643"},
      {"hidden in attention layers", accuracy_estimate(attention), "0.349"},
      {"hidden in SSM layers", accuracy_estimate(ssm)},
      {"attention's drop - the SSMs' drop", more}};
  add_share("accuracy", answers_lost(swept.base, attention), answers_lost(swept.base, ssm),
            figures);
  add_share("log-probability", logprob_drops(swept.base, attention), logprob_drops(swept.base, ssm),
            figures);
  return decided(model, more.low > 0, "options hidden from the last row of one kind of layer",
                 std::move(figures));
}

Outcome dictionaries(Study& study, const std::string& model) {
  const StudyFlags& flags = study.flags();
  const auto spec = [&](int64_t pairs) {
    return fmt::format(fmt::runtime(flags.dictionaries), pairs);
  };
  const FindResult& found = study.found(model, spec(8));
  const HeadScore* strongest = nullptr;
  for (const HeadScore& score : found.heads) {
    const bool more = strongest == nullptr || *score.logprob_drop > *strongest->logprob_drop;
    if (score.logprob_drop && more) strongest = &score;
  }
  if (strongest == nullptr) return not_run(model, "no heads");
  std::vector<Figure> figures;
  bool lower = true;
  for (const int64_t pairs : flags.pairs) {
    const SweepResult swept = cut(study, model, spec(pairs), one_each({strongest->head}));
    figures.push_back({spec(pairs) + ", whole", accuracy_estimate(swept.base)});
    figures.push_back({fmt::format("{}, without {}", spec(pairs), head_name(strongest->head)),
                       accuracy_estimate(swept.variants[0])});
    lower = lower && accuracy_drop(swept.base, swept.variants[0]).low > 0;
  }
  const std::vector<Figure> sizes = state_sizes(study, model);
  figures.insert(figures.end(), sizes.begin(), sizes.end());
  return decided(
      model, lower,
      fmt::format("head {}, the strongest on {}; {}", head_name(strongest->head), spec(8),
                  sizes.empty() ? "against state size: not run here, without a model that differs "
                                  "in nothing but a smaller one"
                                : "against state size: the figures that name one"),
      std::move(figures));
}

const std::vector<Claim>& all_claims() {
  return kAllClaims;
}

}  // namespace headlens::cli
