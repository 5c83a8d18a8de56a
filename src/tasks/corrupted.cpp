// headlens/tasks: corrupted prompts for patching: as many tokens, another answer.
#include "headlens/tasks/corrupted.h"

#include <algorithm>
#include <cctype>

#include "core/check.h"
#include "headlens/model/tokenizer.h"

namespace headlens {
namespace {

std::string_view span_text(const Example& example, size_t span) {
  const ByteSpan& s = example.spans[span];
  return std::string_view(example.prompt).substr(s.begin, s.end - s.begin);
}

std::string_view without_spaces(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0;
}

/// The next place of `word` from `from` on where it is not part of a longer one; npos: none.
size_t find_word(std::string_view text, std::string_view word, size_t from) {
  for (size_t at = text.find(word, from); at != std::string_view::npos;
       at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    const bool begins = at == 0 || !is_word(text[at - 1]);
    if (begins && (end == text.size() || !is_word(text[end]))) return at;
  }
  return std::string_view::npos;
}

/// Is every segment "LETTER. option", its choice the letter?
bool has_lettered_lines(const Example& example) {
  if (example.spans.size() != example.choices.size()) return false;
  for (size_t i = 0; i < example.spans.size(); ++i) {
    const std::string lead = std::string(without_spaces(example.choices[i])) + ". ";
    if (!span_text(example, i).starts_with(lead)) return false;
  }
  return !example.spans.empty();
}

/// Does every segment hold its choice as a word?
bool holds_choices(const Example& example) {
  if (example.spans.size() != example.choices.size()) return false;
  for (size_t i = 0; i < example.spans.size(); ++i) {
    const std::string_view word = without_spaces(example.choices[i]);
    if (word.empty() || find_word(span_text(example, i), word, 0) == std::string_view::npos) {
      return false;
    }
  }
  return !example.spans.empty();
}

/// A stretch of a prompt and what takes its place.
struct Edit {
  ByteSpan where;
  std::string text;
};

/// The example with its prompt edited (edits in the order of the text), and spans that follow.
Example edited(Example example, const std::vector<Edit>& edits) {
  const std::string text = std::move(example.prompt);
  example.prompt.clear();
  size_t at = 0;
  for (const Edit& edit : edits) {
    example.prompt += text.substr(at, edit.where.begin - at) + edit.text;
    at = edit.where.end;
  }
  example.prompt += text.substr(at);
  const auto moved = [&](size_t position) {
    size_t to = position;
    for (const Edit& edit : edits) {
      if (edit.where.end <= position) to += edit.text.size() + edit.where.begin - edit.where.end;
    }
    return to;
  };
  for (ByteSpan& span : example.spans) span = {moved(span.begin), moved(span.end)};
  return example;
}

/// What stands behind "LETTER. " in a line, without the newline.
ByteSpan option_span(const Example& example, size_t line) {
  ByteSpan span = example.spans[line];
  const std::string_view text = span_text(example, line);
  span.begin += without_spaces(example.choices[line]).size() + 2;
  if (text.ends_with('\n')) --span.end;
  return span;
}

Example with_options_exchanged(const Example& example, size_t a, size_t b) {
  ByteSpan first = option_span(example, a), second = option_span(example, b);
  if (first.begin > second.begin) std::swap(first, second);
  const auto text = [&](ByteSpan s) { return example.prompt.substr(s.begin, s.end - s.begin); };
  return edited(example, {{first, text(second)}, {second, text(first)}});
}

Example with_words_exchanged(const Example& example, size_t a, size_t b) {
  const std::string_view one = without_spaces(example.choices[a]);
  const std::string_view other = without_spaces(example.choices[b]);
  std::vector<Edit> edits;
  for (size_t at = 0;;) {
    const size_t next_one = find_word(example.prompt, one, at);
    const size_t next_other = find_word(example.prompt, other, at);
    const size_t next = std::min(next_one, next_other);
    if (next == std::string_view::npos) return edited(example, edits);
    const bool is_one = next == next_one;
    at = next + (is_one ? one : other).size();
    edits.push_back({{next, at}, std::string(is_one ? other : one)});
  }
}

/// The example with this answer, its choices as they are in `clean`; null where the tokens are not
/// as many, or segments move.
std::optional<TokenizedExample> if_alike(Example example, size_t answer,
                                         const TokenizedExample& clean, const Tokenizer& tokenizer,
                                         bool bos) {
  example.answer = static_cast<int64_t>(answer);
  TokenizedExample out = tokenize(example, tokenizer, bos);
  const bool alike =
      out.prompt_ids.size() == clean.prompt_ids.size() && out.segments == clean.segments;
  if (!alike || out.prompt_ids == clean.prompt_ids) return std::nullopt;
  out.choice_ids = clean.choice_ids;
  return out;
}

TokenizedExample swapped(const Example& example, const TokenizedExample& clean,
                         const Tokenizer& tokenizer, bool bos) {
  const bool lines = has_lettered_lines(example);
  HEADLENS_CHECK(TaskError, lines || holds_choices(example),
                 "[corrupt] {}: segments, expected one a choice with the choice in it, to swap, "
                 "got others",
                 example.source);
  const size_t choices = example.choices.size(), right = static_cast<size_t>(example.answer);
  for (size_t step = 1; step < choices; ++step) {
    const size_t other = (right + step) % choices;
    Example changed = lines ? with_options_exchanged(example, right, other)
                            : with_words_exchanged(example, right, other);
    auto made = if_alike(std::move(changed), other, clean, tokenizer, bos);
    if (made) return std::move(*made);
  }
  HEADLENS_FAIL(TaskError,
                "[corrupt] {}: another choice to swap with the right one, expected one of as many "
                "tokens, got none of {}",
                example.source, choices - 1);
}

TokenizedExample given(const Example& example, const TokenizedExample& clean,
                       const Tokenizer& tokenizer, bool bos) {
  HEADLENS_CHECK(TaskError, !example.corrupted.empty(),
                 "[corrupt] {}: 'corrupted', expected a prompt, got none", example.source);
  Example other = example;
  other.prompt = example.corrupted;
  other.answer = example.corrupted_answer;
  HEADLENS_CHECK(TaskError, other.answer != example.answer,
                 "[corrupt] {}: 'corrupted_answer', expected another than 'answer', got {} twice",
                 example.source, example.answer);
  TokenizedExample out = tokenize(other, tokenizer, bos);
  HEADLENS_CHECK(TaskError, out.prompt_ids.size() == clean.prompt_ids.size(),
                 "[corrupt] {}: tokens of 'corrupted', expected {} as in 'prompt', got {}",
                 example.source, clean.prompt_ids.size(), out.prompt_ids.size());
  out.choice_ids = clean.choice_ids;
  return out;
}

/// The choice of `clean` that is the right one of `donor`; -1: none.
int64_t choice_of(const TokenizedExample& clean, const TokenizedExample& donor) {
  const auto& answer = donor.choice_ids[static_cast<size_t>(donor.answer)];
  const auto found = std::find(clean.choice_ids.begin(), clean.choice_ids.end(), answer);
  return found == clean.choice_ids.end() ? -1 : found - clean.choice_ids.begin();
}

TokenizedExample another(const Task& task, const std::vector<TokenizedExample>& clean, size_t i) {
  const TokenizedExample& own = clean[i];
  for (size_t step = 1; step < clean.size(); ++step) {
    const TokenizedExample& donor = clean[(i + step) % clean.size()];
    const int64_t answer = choice_of(own, donor);
    const bool fits = donor.prompt_ids.size() == own.prompt_ids.size() && answer >= 0 &&
                      answer != own.answer && donor.prompt_ids != own.prompt_ids;
    if (!fits) continue;
    TokenizedExample out = own;
    out.prompt_ids = donor.prompt_ids;
    out.prompt = donor.prompt;
    out.tokens = donor.tokens;
    out.segments = donor.segments;
    out.answer = answer;
    return out;
  }
  HEADLENS_FAIL(TaskError,
                "[corrupt] {}: another example of {} tokens whose answer is another of its "
                "choices, expected one, got none of {}",
                task.examples[i].source, own.prompt_ids.size(), clean.size() - 1);
}

TokenizedExample corrupted_one(const Task& task, const std::vector<TokenizedExample>& clean,
                               size_t i, const Tokenizer& tokenizer, Corruption how, bool bos) {
  const Example& example = task.examples[i];
  HEADLENS_CHECK(TaskError, example.leads.empty(),
                 "[corrupt] {}: choices, expected to follow the prompt, got leads between",
                 example.source);
  if (how == Corruption::Given) return given(example, clean[i], tokenizer, bos);
  if (how == Corruption::Swap) return swapped(example, clean[i], tokenizer, bos);
  return another(task, clean, i);
}

void check_sizes(const Task& task, const std::vector<TokenizedExample>& clean) {
  HEADLENS_CHECK(TaskError, clean.size() == task.examples.size(),
                 "[corrupt] tokenized examples, expected {} as in the task, got {}",
                 task.examples.size(), clean.size());
}

}  // namespace

Corruption default_corruption(const Task& task) {
  const auto all = [&](auto holds) {
    return std::all_of(task.examples.begin(), task.examples.end(), holds);
  };
  if (all([](const Example& e) { return !e.corrupted.empty(); })) return Corruption::Given;
  const bool swaps =
      all([](const Example& e) { return has_lettered_lines(e) || holds_choices(e); });
  return swaps ? Corruption::Swap : Corruption::Example;
}

const char* corruption_name(Corruption how) {
  return how == Corruption::Given ? "given" : how == Corruption::Swap ? "swap" : "example";
}

std::optional<Corruption> parse_corruption(std::string_view word) {
  for (const Corruption how : {Corruption::Given, Corruption::Swap, Corruption::Example}) {
    if (word == corruption_name(how)) return how;
  }
  return std::nullopt;
}

std::vector<TokenizedExample> corrupted_examples(const Task& task,
                                                 const std::vector<TokenizedExample>& clean,
                                                 const Tokenizer& tokenizer, Corruption how,
                                                 bool bos) {
  check_sizes(task, clean);
  std::vector<TokenizedExample> out;
  for (size_t i = 0; i < clean.size(); ++i) {
    out.push_back(corrupted_one(task, clean, i, tokenizer, how, bos));
  }
  return out;
}

std::vector<TokenizedExample> corrupted_where_possible(const Task& task,
                                                       const std::vector<TokenizedExample>& clean,
                                                       const Tokenizer& tokenizer, Corruption how,
                                                       bool bos, std::vector<size_t>& kept) {
  check_sizes(task, clean);
  std::vector<TokenizedExample> out;
  kept.clear();
  for (size_t i = 0; i < clean.size(); ++i) {
    try {
      out.push_back(corrupted_one(task, clean, i, tokenizer, how, bos));
      kept.push_back(i);
    } catch (const TaskError&) {
      if (kept.empty() && i + 1 == clean.size()) throw;
    }
  }
  return out;
}

}  // namespace headlens
