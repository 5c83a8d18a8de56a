// headlens/tasks: examples grouped into batches of sequences.
#include <ATen/ATen.h>

#include <numeric>

#include "core/check.h"
#include "headlens/tasks/scoring.h"

namespace headlens {
namespace {

using Ids = std::vector<int64_t>;

bool begins_with(const Ids& sequence, const Ids& prefix) {
  return prefix.size() <= sequence.size() &&
         std::equal(prefix.begin(), prefix.end(), sequence.begin());
}

/// Tokens at the front of a choice that are read and not scored.
size_t lead_count(const TokenizedExample& example, size_t choice) {
  return example.lead_counts.empty() ? 0 : static_cast<size_t>(example.lead_counts.at(choice));
}

/// What each row of an example holds past the prompt, and which row each choice is read from.
struct RowPlan {
  std::vector<Ids> tails;
  std::vector<int64_t> row_of_choice;
  int64_t length = 0;  // of the longest row
};

RowPlan plan_rows(const TokenizedExample& example) {
  std::vector<Ids> heads;  // each choice without its last token
  for (const Ids& choice : example.choice_ids) heads.emplace_back(choice.begin(), choice.end() - 1);
  RowPlan plan;
  for (const Ids& head : heads) {
    const bool covered = std::any_of(heads.begin(), heads.end(), [&](const Ids& other) {
      return other.size() > head.size() && begins_with(other, head);
    });
    const bool repeated = std::find(plan.tails.begin(), plan.tails.end(), head) != plan.tails.end();
    if (!covered && !repeated) plan.tails.push_back(head);
  }
  for (const Ids& head : heads) {
    const auto row = std::find_if(plan.tails.begin(), plan.tails.end(),
                                  [&](const Ids& tail) { return begins_with(tail, head); });
    plan.row_of_choice.push_back(row - plan.tails.begin());
  }
  for (const Ids& tail : plan.tails) {
    plan.length = std::max(plan.length, std::ssize(example.prompt_ids) + std::ssize(tail));
  }
  return plan;
}

/// Collects the rows and picks of one batch as flat lists; `build` makes the tensors.
class BatchBuilder {
 public:
  /// `common`: tokens that all rows begin with, which are run once.
  explicit BatchBuilder(int64_t common) : common_(common) {}

  /// Row x pos the batch would run with `plan` added: a quarter of what it would hold at least,
  /// since not everything can go by what is common.
  int64_t size_with(const RowPlan& plan) const {
    const int64_t rows = std::ssize(rows_) + std::ssize(plan.tails);
    const int64_t length = std::max(length_, plan.length);
    return std::max(common_ + rows * (length - common_), rows * length / 4);
  }
  bool empty() const { return rows_.empty(); }

  void add(int64_t index, const TokenizedExample& example, const RowPlan& plan) {
    const int64_t first_row = std::ssize(rows_);
    batch_.rows.examples.push_back(index);
    batch_.rows.example_rows.push_back(first_row);
    batch_.choices.push_back({std::ssize(tokens_), {}, example.answer});
    for (size_t c = 0; c < example.choice_ids.size(); ++c) {
      const Ids& choice = example.choice_ids[c];
      const size_t lead = lead_count(example, c);
      batch_.choices.back().counts.push_back(std::ssize(choice) - static_cast<int64_t>(lead));
      for (size_t slot = lead; slot < choice.size(); ++slot) {
        pick_rows_.push_back(first_row + plan.row_of_choice[c]);
        pick_slots_.push_back(static_cast<int64_t>(slot));
        tokens_.push_back(choice[slot]);
        batch_.max_token = std::max(batch_.max_token, choice[slot]);
      }
    }
    for (const Ids& tail : plan.tails) add_row(example.prompt_ids, tail);
  }

  ScoringBatch build() {
    const int64_t rows = std::ssize(rows_), slots = max_tail_ + 1;
    batch_.rows.ids = at::zeros({rows, length_}, at::kLong);
    batch_.rows.logit_positions = at::zeros({rows, slots}, at::kLong);
    auto ids = batch_.rows.ids.accessor<int64_t, 2>();
    auto positions = batch_.rows.logit_positions.accessor<int64_t, 2>();
    for (int64_t r = 0; r < rows; ++r) {
      const Ids& row = rows_[static_cast<size_t>(r)];
      for (int64_t p = 0; p < std::ssize(row); ++p) ids[r][p] = row[static_cast<size_t>(p)];
      const int64_t first =
          prompt_lengths_[static_cast<size_t>(r)] - 1;  // slot 0: the last prompt token
      for (int64_t s = 0; s < slots; ++s)
        positions[r][s] = std::min(first + s, std::ssize(row) - 1);
    }
    const auto row_of = [](const Ids& list) { return at::tensor(list, at::kLong); };
    batch_.picks = at::stack({row_of(pick_rows_), row_of(pick_slots_), row_of(tokens_)});
    return std::move(batch_);
  }

 private:
  void add_row(const Ids& prompt, const Ids& tail) {
    rows_.push_back(prompt);
    rows_.back().insert(rows_.back().end(), tail.begin(), tail.end());
    prompt_lengths_.push_back(std::ssize(prompt));
    length_ = std::max(length_, std::ssize(rows_.back()));
    max_tail_ = std::max(max_tail_, std::ssize(tail));
  }

  ScoringBatch batch_;
  std::vector<Ids> rows_;
  Ids prompt_lengths_, pick_rows_, pick_slots_, tokens_;
  int64_t common_;
  int64_t length_ = 0;
  int64_t max_tail_ = 0;
};

int64_t common_length(const Ids& a, const Ids& b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

/// Examples whose prompts begin alike.
struct Kin {
  std::vector<size_t> members;
  int64_t common = 0;   // tokens that all begin with
  int64_t longest = 0;  // row

  /// Adds the next example in the order of tokens, if half of every row is still common then.
  bool take(size_t i, const std::vector<TokenizedExample>& examples, const RowPlan& plan) {
    const Ids& prompt = examples[i].prompt_ids;
    int64_t shared = std::ssize(prompt);
    if (!members.empty()) {
      shared = std::min(common, common_length(examples[members.back()].prompt_ids, prompt));
    }
    const int64_t length = std::max(longest, plan.length);
    if (!members.empty() && 2 * shared < length) return false;
    members.push_back(i);
    common = shared;
    longest = length;
    return true;
  }
};

/// Groups whose prompts begin alike for half of their rows or more, as those of one subject with
/// its few shots do, of eight at least: batches of few are slow. All others are the last group.
std::vector<Kin> groups_of_kin(const std::vector<TokenizedExample>& examples,
                               const std::vector<RowPlan>& plans) {
  constexpr size_t kFew = 8;
  std::vector<size_t> order(examples.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return examples[a].prompt_ids < examples[b].prompt_ids;
  });
  std::vector<Kin> groups;
  Kin kin, others;
  const auto close = [&] {
    if (kin.members.size() >= kFew) {
      groups.push_back(kin);
    } else {
      others.members.insert(others.members.end(), kin.members.begin(), kin.members.end());
    }
    kin = {};
  };
  for (const size_t i : order) {
    if (kin.take(i, examples, plans[i])) continue;
    close();
    kin.take(i, examples, plans[i]);
  }
  close();
  groups.push_back(std::move(others));
  for (Kin& group : groups) std::sort(group.members.begin(), group.members.end());
  return groups;
}

void check_tokens(const std::vector<TokenizedExample>& examples) {
  for (size_t i = 0; i < examples.size(); ++i) {
    const TokenizedExample& example = examples[i];
    bool choices_full = true;
    for (size_t c = 0; c < example.choice_ids.size(); ++c) {
      choices_full = choices_full && example.choice_ids[c].size() > lead_count(example, c);
    }
    HEADLENS_CHECK(TaskError, !example.prompt_ids.empty() && choices_full,
                   "[score] example {}, expected tokens in prompt and choices, got none", i);
    HEADLENS_CHECK(TaskError,
                   example.answer >= 0 && example.answer < std::ssize(example.choice_ids),
                   "[score] example {}: answer, expected 0 to {}, got {}", i,
                   std::ssize(example.choice_ids) - 1, example.answer);
  }
}

}  // namespace

std::vector<ScoringBatch> make_batches(const std::vector<TokenizedExample>& examples,
                                       int64_t max_tokens) {
  check_tokens(examples);
  std::vector<RowPlan> plans;
  for (const TokenizedExample& example : examples) plans.push_back(plan_rows(example));
  std::vector<ScoringBatch> batches;
  for (Kin& kin : groups_of_kin(examples, plans)) {
    std::stable_sort(kin.members.begin(), kin.members.end(),
                     [&](size_t a, size_t b) { return plans[a].length < plans[b].length; });
    BatchBuilder builder(kin.common);
    for (const size_t i : kin.members) {
      if (!builder.empty() && builder.size_with(plans[i]) > max_tokens) {
        batches.push_back(builder.build());
        builder = BatchBuilder(kin.common);
      }
      builder.add(static_cast<int64_t>(i), examples[i], plans[i]);
    }
    if (!builder.empty()) batches.push_back(builder.build());
  }
  return batches;
}

}  // namespace headlens
