// headlens/model: what becomes of the matches when a text is split at them.
#include "model/tokenizer_split.h"

#include <algorithm>
#include <utility>

namespace headlens {
namespace {

constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
    {"Removed", SplitBehavior::Removed},
    {"Isolated", SplitBehavior::Isolated},
    {"MergedWithPrevious", SplitBehavior::MergedWithPrevious},
    {"MergedWithNext", SplitBehavior::MergedWithNext},
    {"Contiguous", SplitBehavior::Contiguous}};

/// Appends pieces, gluing piece i to the one before it where glue(before, i) holds.
template <typename Glue>
void append_glued(const std::vector<Piece>& pieces, size_t offset, std::vector<Span>& spans,
                  Glue glue) {
  const size_t first = spans.size();
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (spans.size() > first && glue(i)) {
      spans.back().end = pieces[i].end + offset;
    } else {
      spans.push_back({pieces[i].begin + offset, pieces[i].end + offset});
    }
  }
  // Empty matches part their neighbours, but are no words.
  const auto empty = [](const Span& span) { return span.begin == span.end; };
  spans.erase(std::remove_if(spans.begin() + static_cast<ptrdiff_t>(first), spans.end(), empty),
              spans.end());
}

}  // namespace

SplitBehavior read_behavior(const JsonFields& fields) {
  const auto name = fields.required<std::string>("behavior");
  for (const auto& [known, behavior] : kBehaviors) {
    if (known == name) return behavior;
  }
  HEADLENS_FAIL(ConfigError,
                "[{}] key 'behavior', expected Removed, Isolated, MergedWithPrevious, "
                "MergedWithNext or Contiguous, got \"{}\"",
                fields.where(), name);
}

void append_split(std::vector<Piece>& pieces, SplitBehavior behavior, size_t offset,
                  std::vector<Span>& spans) {
  const auto match = [&](size_t i) { return pieces[i].match; };
  const auto never = [](size_t) { return false; };
  switch (behavior) {
    case SplitBehavior::Isolated:
      return append_glued(pieces, offset, spans, never);
    case SplitBehavior::Removed:
      std::erase_if(pieces, [](const Piece& piece) { return piece.match; });
      return append_glued(pieces, offset, spans, never);
    case SplitBehavior::Contiguous:
      return append_glued(pieces, offset, spans,
                          [&](size_t i) { return match(i) == match(i - 1); });
    case SplitBehavior::MergedWithPrevious:  // of matches in a row only the first finds a host
      return append_glued(pieces, offset, spans,
                          [&](size_t i) { return match(i) && !match(i - 1); });
    case SplitBehavior::MergedWithNext:  // of matches in a row only the last does
      return append_glued(pieces, offset, spans,
                          [&](size_t i) { return match(i - 1) && !match(i); });
  }
}

}  // namespace headlens
