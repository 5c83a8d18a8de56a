// headlens/cli: steps of a command that one process does for all, kept in the run's journal.
#include "cli/pool_steps.h"

#include "analysis/kept_outcomes.h"
#include "core/value_bytes.h"

namespace headlens::cli {
namespace {

void put_head(const HeadValues& head, ValueWriter& out) {
  out.put(head.head);
  out.put_text(head.kind);
  out.put(head.values.rows()), out.put(head.values.cols());
  for (const double value : head.values.reshaped()) out.put(value);
}

HeadValues get_head(ValueReader& in) {
  HeadValues head;
  head.head = in.get<HeadId>();
  head.kind = in.get_text();
  const auto rows = in.get<Eigen::Index>(), columns = in.get<Eigen::Index>();
  head.values.resize(rows, columns);
  for (double& value : head.values.reshaped()) value = in.get<double>();
  return head;
}

std::string bytes_of(const HeadFigures& figures) {
  ValueWriter out;
  out.put(figures.heads.size());
  for (const HeadValues& head : figures.heads) put_head(head, out);
  for (const auto* head : {&figures.gather, &figures.aggregate}) {
    out.put(head->has_value());
    if (*head) put_head(**head, out);
  }
  return std::move(out.bytes);
}

HeadFigures figures_of(const std::string& bytes) {
  ValueReader in(bytes);
  HeadFigures figures;
  for (size_t left = in.get<size_t>(); left > 0; --left) figures.heads.push_back(get_head(in));
  for (auto* head : {&figures.gather, &figures.aggregate}) {
    if (in.get<bool>()) *head = get_head(in);
  }
  return figures;
}

}  // namespace

void PrefixedPool::start(const RunIdentity& identity, std::optional<Journal> journal) {
  pool_.start(identity, std::move(journal));
}

std::vector<std::string> PrefixedPool::run(const std::vector<std::string>& keys,
                                           const Compute& compute, const Progress& progress) {
  std::vector<std::string> prefixed;
  for (const std::string& key : keys) prefixed.push_back(prefix_ + key);
  return pool_.run(prefixed, compute, progress);
}

std::vector<SweepOutcome> pooled_outcomes(
    WorkPool& pool, const std::string& key,
    const std::function<std::vector<SweepOutcome>()>& compute) {
  const KeptSteps steps = [&](const std::string& name, const std::function<std::string()>& step) {
    return pool.run({name}, [&](size_t) { return step(); }).front();
  };
  return kept_outcomes(steps, key, compute);
}

HeadFigures pooled_head_values(WorkPool& pool, const std::string& key,
                               const std::function<HeadFigures()>& compute) {
  return figures_of(pool.run({key}, [&](size_t) { return bytes_of(compute()); }).front());
}

}  // namespace headlens::cli
