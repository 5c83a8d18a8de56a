// headlens/analysis: positions by what stands there: segments, their ends, tokens, the last one.
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "core/check.h"
#include "headlens/analysis/patching.h"

namespace headlens {
namespace {

using Positions = std::vector<int64_t>;

Positions range(int64_t first, int64_t last) {
  Positions all(static_cast<size_t>(std::max<int64_t>(0, last - first + 1)));
  std::iota(all.begin(), all.end(), first);
  return all;
}

/// The clean and the corrupted prompt of one example.
struct PromptPair {
  const PromptInfo& clean;
  const PromptInfo& corrupted;
  Positions changed;
};

/// The segment of a prompt's answer; none: no positions.
Positions target_positions(const PromptInfo& prompt, bool end_only) {
  if (prompt.target_segment < 0) return {};
  const PromptSegment& s = prompt.segments.at(static_cast<size_t>(prompt.target_segment));
  return end_only ? Positions{s.end} : range(s.start, s.end);
}

Positions segment_ends(const PromptInfo& prompt) {
  Positions ends;
  for (const PromptSegment& s : prompt.segments) ends.push_back(s.end);
  std::sort(ends.begin(), ends.end());
  return ends;
}

Positions positions_of(const std::string& word, const PromptPair& pair) {
  const int64_t last = pair.clean.length - 1;
  if (word == "last") return {last};
  if (word == "right" || word == "right_end") return target_positions(pair.clean, word != "right");
  if (word == "wrong" || word == "wrong_end") {
    return target_positions(pair.corrupted, word != "wrong");
  }
  if (word == "changed") return pair.changed;
  Positions ends = segment_ends(pair.clean);
  if (word == "ends") return ends;
  return ends.empty() ? Positions() : range(ends.back() + 1, last - 1);  // between
}

std::vector<PromptPair> prompt_pairs(const Objective& clean, const Objective& corrupted) {
  std::vector<Positions> changed(static_cast<size_t>(clean.example_count()));
  for (int64_t b = 0; b < clean.batch_count(); ++b) {
    const ObjectiveBatch& batch = clean.batch(b);
    for (size_t i = 0; i < batch.examples.size(); ++i) {
      const int64_t length = clean.prompt(batch.examples[i]).length, row = batch.example_rows[i];
      const Tensor own = batch.ids[row].slice(0, 0, length).cpu();
      const Tensor other = corrupted.batch(b).ids[row].slice(0, 0, length).cpu();
      const Tensor where = own.ne(other).nonzero().flatten().contiguous();
      changed[static_cast<size_t>(batch.examples[i])].assign(
          where.data_ptr<int64_t>(), where.data_ptr<int64_t>() + where.numel());
    }
  }
  std::vector<PromptPair> pairs;
  for (int64_t e = 0; e < clean.example_count(); ++e) {
    pairs.push_back({clean.prompt(e), corrupted.prompt(e), changed[static_cast<size_t>(e)]});
  }
  return pairs;
}

void add_tokens(const std::vector<PromptPair>& pairs, std::vector<PositionGroup>& groups) {
  int64_t shortest = INT64_MAX;
  for (const PromptPair& pair : pairs) shortest = std::min(shortest, pair.clean.length);
  for (int64_t back = shortest; back >= 1; --back) {
    PositionGroup& group = groups.emplace_back(PositionGroup{fmt::format("token -{}", back)});
    for (const PromptPair& pair : pairs) group.positions.push_back({pair.clean.length - back});
  }
}

void add_segments(const std::vector<PromptPair>& pairs, std::vector<PositionGroup>& groups) {
  size_t fewest = SIZE_MAX;
  for (const PromptPair& pair : pairs) fewest = std::min(fewest, pair.clean.segments.size());
  for (size_t s = 0; s < fewest; ++s) {
    PositionGroup& group = groups.emplace_back(PositionGroup{fmt::format("segment {}", s)});
    for (const PromptPair& pair : pairs) {
      group.positions.push_back(range(pair.clean.segments[s].start, pair.clean.segments[s].end));
    }
  }
  HEADLENS_CHECK(TaskError, fewest > 0,
                 "[patch] positions 'segment', expected segments in every example, got {}", "none");
}

}  // namespace

const std::vector<std::string>& position_words() {
  static const std::vector<std::string> words = {"all",   "last",    "token",     "segment",
                                                 "right", "wrong",   "right_end", "wrong_end",
                                                 "ends",  "changed", "between"};
  return words;
}

std::vector<PositionGroup> position_groups(const Objective& clean, const Objective& corrupted,
                                           const std::vector<std::string>& words) {
  const std::vector<PromptPair> pairs = prompt_pairs(clean, corrupted);
  std::vector<PositionGroup> groups;
  for (const std::string& word : words) {
    const auto& known = position_words();
    HEADLENS_CHECK(UsageError, std::find(known.begin(), known.end(), word) != known.end(),
                   "[patch] positions, expected one of {}, got '{}'", fmt::join(known, ", "), word);
    if (word == "all") {
      groups.push_back({word, {}, /*everywhere=*/true});
    } else if (word == "token") {
      add_tokens(pairs, groups);
    } else if (word == "segment") {
      add_segments(pairs, groups);
    } else {
      PositionGroup& group = groups.emplace_back(PositionGroup{word});
      for (const PromptPair& pair : pairs) {
        group.positions.push_back(positions_of(word, pair));
        HEADLENS_CHECK(TaskError, !group.positions.back().empty(),
                       "[patch] positions '{}', expected some in every example, got none in "
                       "example {}",
                       word, group.positions.size() - 1);
      }
    }
  }
  return groups;
}

}  // namespace headlens
