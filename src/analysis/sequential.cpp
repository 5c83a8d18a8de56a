// headlens/analysis: ablation that stops testing heads which are sure not to matter.
#include "headlens/analysis/sequential.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/check.h"

namespace headlens {
namespace {

/// Shares of the largest bet that cannot lose everything.
constexpr double kBets[] = {0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95};

int64_t count_of(const std::vector<ObjectivePart>& parts) {
  int64_t examples = 0;
  for (const ObjectivePart& part : parts) examples += part.objective->example_count();
  return examples;
}

void append(const SweepOutcome& more, SweepOutcome& all) {
  all.verdicts.insert(all.verdicts.end(), more.verdicts.begin(), more.verdicts.end());
}

}  // namespace

ShortfallTest::ShortfallTest(int64_t n, double least)
    : left_(n), needed_(static_cast<double>(n) * least), log_wealth_(std::size(kBets), 0.0) {}

void ShortfallTest::add(double value) {
  HEADLENS_CHECK(ShapeError, left_ > 0 && value >= -1 && value <= 1,
                 "[sequential] value, expected one of {} left within -1 to 1, got {}", left_,
                 value);
  const double mean = needed_ / static_cast<double>(left_);  // of the values left, at least
  if (mean < 1) {
    for (size_t b = 0; b < log_wealth_.size(); ++b) {
      log_wealth_[b] += std::log1p(kBets[b] * (mean - value) / (1 - mean));
    }
  }
  needed_ -= value;
  --left_;
  // Sums of many hundredths are not exact: what is short by less than rounding is not short.
  impossible_ = impossible_ || needed_ > static_cast<double>(left_) + 1e-6;
}

double ShortfallTest::log_evidence() const {
  if (impossible_) return std::numeric_limits<double>::infinity();
  const double top = *std::max_element(log_wealth_.begin(), log_wealth_.end());
  double sum = 0;
  for (const double wealth : log_wealth_) sum += std::exp(wealth - top);
  return top + std::log(sum / static_cast<double>(log_wealth_.size()));
}

SequentialResult sequential_sweep(const LanguageModel& model, const SequentialLooks& looks,
                                  const std::vector<HeadId>& targets, double min_drop,
                                  const SweepOptions& options) {
  HEADLENS_CHECK(UsageError, looks.alpha > 0 && looks.alpha < 1,
                 "[sequential] error rate, expected between 0 and 1, got {}", looks.alpha);
  HEADLENS_CHECK(UsageError, options.mode == AblationMode::Zero,
                 "[sequential] mode, expected {}, got another", "zero");
  const double enough = std::log(static_cast<double>(targets.size()) / looks.alpha);
  SequentialResult result;
  result.swept.variants.resize(targets.size());
  result.examples.resize(targets.size());
  std::vector<ShortfallTest> tests(targets.size(), ShortfallTest(count_of(looks.parts), min_drop));
  std::vector<size_t> open(targets.size());
  for (size_t t = 0; t < open.size(); ++t) open[t] = t;
  SweepOptions of_part = options;
  of_part.progress = {};
  for (size_t p = 0; p < looks.parts.size(); ++p) {
    std::vector<HeadId> heads;
    for (const size_t t : open) heads.push_back(targets[t]);
    const SweepResult found = ablation_sweep(model, *looks.parts[p].objective, heads, of_part);
    append(found.base, result.swept.base);
    for (size_t i = 0; i < open.size(); ++i) {
      append(found.variants[i], result.swept.variants[open[i]]);
      result.examples[open[i]] += std::ssize(found.base.verdicts);
      for (size_t e = 0; e < found.base.verdicts.size(); ++e) {
        tests[open[i]].add(static_cast<double>(found.base.verdicts[e].correct) -
                           static_cast<double>(found.variants[i].verdicts[e].correct));
      }
    }
    std::erase_if(open, [&](size_t t) { return tests[t].log_evidence() >= enough; });
    if (options.progress) {
      options.progress(static_cast<int64_t>(p) + 1, std::ssize(looks.parts));
    }
  }
  return result;
}

}  // namespace headlens
