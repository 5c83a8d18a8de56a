// headlens/analysis: results of work items as bytes, every bit of them.
#include "analysis/item_bytes.h"

#include <cstring>
#include <optional>

#include "core/check.h"

namespace headlens {
namespace {

constexpr size_t kVerdictBytes = 1 + 2 * sizeof(double);  // correct, logprob, margin
constexpr size_t kFigureBytes = 1 + sizeof(double);       // is it there, value

constexpr std::optional<double> MapFigures::*kFigures[] = {
    &MapFigures::entropy,           &MapFigures::entropy_norm,
    &MapFigures::row_mass,          &MapFigures::gather,
    &MapFigures::gather_uniform,    &MapFigures::aggregate,
    &MapFigures::aggregate_uniform, &MapFigures::target,
    &MapFigures::target_uniform};

void put(std::string& bytes, double value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// Takes what `put` wrote off the front.
double take(std::string_view& bytes) {
  double value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

bool take_bit(std::string_view& bytes) {
  const bool bit = bytes.front() != 0;
  bytes.remove_prefix(1);
  return bit;
}

void check_size(std::string_view bytes, size_t expected) {
  HEADLENS_CHECK(Error, bytes.size() == expected,
                 "[items] result of a work item, expected {} bytes, got {}", expected,
                 bytes.size());
}

}  // namespace

std::string verdict_bytes(const VerdictTable& table) {
  std::string bytes;
  for (const std::vector<Verdict>& verdicts : table) {
    for (const Verdict& v : verdicts) {
      bytes.push_back(v.correct ? 1 : 0);
      put(bytes, v.logprob);
      put(bytes, v.margin);
    }
  }
  return bytes;
}

VerdictTable read_verdicts(std::string_view bytes, size_t variants, size_t examples) {
  check_size(bytes, variants * examples * kVerdictBytes);
  VerdictTable table(variants, std::vector<Verdict>(examples));
  for (std::vector<Verdict>& verdicts : table) {
    for (Verdict& v : verdicts) {
      v.correct = take_bit(bytes);
      v.logprob = take(bytes);
      v.margin = take(bytes);
    }
  }
  return table;
}

std::string figure_bytes(const std::vector<MapFigures>& figures) {
  std::string bytes;
  for (const MapFigures& f : figures) {
    for (const auto figure : kFigures) {
      bytes.push_back((f.*figure).has_value() ? 1 : 0);
      put(bytes, (f.*figure).value_or(0));
    }
  }
  return bytes;
}

std::vector<MapFigures> read_figures(std::string_view bytes, size_t heads) {
  check_size(bytes, heads * std::size(kFigures) * kFigureBytes);
  std::vector<MapFigures> figures(heads);
  for (MapFigures& f : figures) {
    for (const auto figure : kFigures) {
      const bool there = take_bit(bytes);
      const double value = take(bytes);
      if (there) f.*figure = value;
    }
  }
  return figures;
}

std::string estimate_bytes(const ScreenEstimates& estimates) {
  std::string bytes;
  for (size_t i = 0; i < estimates.heads.size(); ++i) {
    const HeadId& head = estimates.heads[i];
    // Whole numbers below 2^53, which a double holds.
    for (const int64_t number : {head.layer, head.first, head.last, estimates.place[i]}) {
      put(bytes, static_cast<double>(number));
    }
    put(bytes, estimates.drop[i]);
  }
  return bytes;
}

ScreenEstimates read_estimates(std::string_view bytes) {
  constexpr size_t kEntry = 5 * sizeof(double);
  check_size(bytes, bytes.size() / kEntry * kEntry);
  ScreenEstimates estimates;
  const auto number = [&] { return static_cast<int64_t>(take(bytes)); };
  while (!bytes.empty()) {
    HeadId head;
    head.layer = number(), head.first = number(), head.last = number();
    estimates.heads.push_back(head);
    estimates.place.push_back(number());
    estimates.drop.push_back(take(bytes));
  }
  return estimates;
}

}  // namespace headlens
