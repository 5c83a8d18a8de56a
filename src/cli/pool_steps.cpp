// headlens/cli: steps of a command that one process does for all, kept in the run's journal.
#include "cli/pool_steps.h"

#include <cstring>
#include <type_traits>

#include "core/check.h"

namespace headlens::cli {
namespace {

/// Values one after another, as the machine holds them: all processes are of one kind.
class Writer {
 public:
  template <typename T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put_text(const std::string& text) {
    put(text.size());
    bytes += text;
  }
  std::string bytes;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  template <typename T>
  T get() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string get_text() { return std::string(take(get<size_t>())); }
  std::string_view take(size_t count) {
    HEADLENS_CHECK(Error, count <= bytes_.size(),
                   "[journal] a step's result, expected {} bytes more, got {}", count,
                   bytes_.size());
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

 private:
  std::string_view bytes_;
};

std::string bytes_of(const std::vector<SweepOutcome>& outcomes) {
  Writer out;
  out.put(outcomes.size());
  for (const SweepOutcome& outcome : outcomes) {
    out.put(outcome.verdicts.size());
    for (const Verdict& v : outcome.verdicts) {
      out.put(v.correct), out.put(v.logprob), out.put(v.margin);
    }
  }
  return std::move(out.bytes);
}

std::vector<SweepOutcome> outcomes_of(const std::string& bytes) {
  Reader in(bytes);
  std::vector<SweepOutcome> outcomes;
  for (size_t left = in.get<size_t>(); left > 0; --left) {
    SweepOutcome& outcome = outcomes.emplace_back();
    for (size_t examples = in.get<size_t>(); examples > 0; --examples) {
      Verdict& v = outcome.verdicts.emplace_back();
      v.correct = in.get<bool>(), v.logprob = in.get<double>(), v.margin = in.get<double>();
    }
  }
  return outcomes;
}

void put_head(const HeadValues& head, Writer& out) {
  out.put(head.head);
  out.put_text(head.kind);
  out.put(head.values.rows()), out.put(head.values.cols());
  for (const double value : head.values.reshaped()) out.put(value);
}

HeadValues get_head(Reader& in) {
  HeadValues head;
  head.head = in.get<HeadId>();
  head.kind = in.get_text();
  const auto rows = in.get<Eigen::Index>(), columns = in.get<Eigen::Index>();
  head.values.resize(rows, columns);
  for (double& value : head.values.reshaped()) value = in.get<double>();
  return head;
}

std::string bytes_of(const HeadFigures& figures) {
  Writer out;
  out.put(figures.heads.size());
  for (const HeadValues& head : figures.heads) put_head(head, out);
  for (const auto* head : {&figures.gather, &figures.aggregate}) {
    out.put(head->has_value());
    if (*head) put_head(**head, out);
  }
  return std::move(out.bytes);
}

HeadFigures figures_of(const std::string& bytes) {
  Reader in(bytes);
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
  return outcomes_of(pool.run({key}, [&](size_t) { return bytes_of(compute()); }).front());
}

HeadFigures pooled_head_values(WorkPool& pool, const std::string& key,
                               const std::function<HeadFigures()>& compute) {
  return figures_of(pool.run({key}, [&](size_t) { return bytes_of(compute()); }).front());
}

}  // namespace headlens::cli
