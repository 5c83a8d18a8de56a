// headlens/tasks: examples as token ids.
#include <ATen/Parallel.h>

#include "core/check.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/task.h"
#include "tasks/token_spans.h"

namespace headlens {
namespace {

void check_example(const Example& example) {
  HEADLENS_CHECK(TaskError, !example.prompt.empty() || !example.leads.empty(),
                 "[task] {}: 'prompt', expected text, got none", example.source);
  HEADLENS_CHECK(TaskError, example.choices.size() >= 2,
                 "[task] {}: 'choices', expected at least 2, got {}", example.source,
                 example.choices.size());
  HEADLENS_CHECK(TaskError, example.answer >= 0 && example.answer < std::ssize(example.choices),
                 "[task] {}: 'answer', expected 0 to {}, got {}", example.source,
                 std::ssize(example.choices) - 1, example.answer);
  const auto check_count = [&](const char* what, size_t count) {
    HEADLENS_CHECK(TaskError, count == 0 || count == example.choices.size(),
                   "[task] {}: {}, expected one a choice, {}, got {}", example.source, what,
                   example.choices.size(), count);
  };
  check_count("leads", example.leads.size());
  check_count("lengths", example.lengths.size());
}

/// The tokens of a choice past the context, which has `prompt_size` of them.
std::vector<int64_t> choice_tokens(const Example& example, const std::string& context,
                                   size_t choice, size_t prompt_size, const Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode(context + example.choices[choice]);
  HEADLENS_CHECK(TaskError, ids.size() > prompt_size,
                 "[task] {}: choice {} ('{}'), expected tokens past the prompt's {}, got {} in all",
                 example.source, choice, example.choices[choice], prompt_size, ids.size());
  return {ids.begin() + static_cast<std::ptrdiff_t>(prompt_size), ids.end()};
}

/// What the tokenizer's post-processor puts before the prompt.
std::vector<int64_t> leading_special(const Example& example, const Tokenizer& tokenizer) {
  // A prompt that goes on into a lead may be cut within a token.
  const std::string text = example.prompt + (example.leads.empty() ? "" : example.leads.front());
  const auto plain = tokenizer.encode(text);
  const auto full = tokenizer.encode(text, /*add_special_tokens=*/true);
  const auto start = std::search(full.begin(), full.end(), plain.begin(), plain.end());
  HEADLENS_CHECK(TaskError, start != full.end(),
                 "[task] {}: special tokens, expected them around the prompt, got a changed prompt",
                 example.source);
  return {full.begin(), start};
}

std::vector<Segment> prompt_segments(const Example& example, const std::vector<int64_t>& ids,
                                     const Tokenizer& tokenizer) {
  if (example.segments.empty()) {
    return token_spans(example.prompt, ids, example.spans, tokenizer, example.source);
  }
  for (const Segment& segment : example.segments) {
    HEADLENS_CHECK(
        TaskError,
        segment.start >= 0 && segment.start <= segment.end && segment.end < std::ssize(ids),
        "[task] {}: 'segments', expected 0 <= start <= end < {} (the prompt's tokens), "
        "got [{}, {}]",
        example.source, ids.size(), segment.start, segment.end);
  }
  return example.segments;
}

/// The tokens of the prompt, choices filled in; special tokens and segments are not there yet.
std::vector<int64_t> encode_plain(const Example& example, const Tokenizer& tokenizer,
                                  TokenizedExample& out) {
  std::vector<int64_t> ids = tokenizer.encode(example.prompt);
  HEADLENS_CHECK(TaskError, !ids.empty(), "[task] {}: 'prompt', expected tokens, got none",
                 example.source);
  for (size_t i = 0; i < example.choices.size(); ++i) {
    out.choice_ids.push_back(choice_tokens(example, example.prompt, i, ids.size(), tokenizer));
  }
  return ids;
}

/// The same where contexts differ: the prompt is what they share, and what each has beyond it goes
/// before its choice without being scored.
std::vector<int64_t> encode_leads(const Example& example, const Tokenizer& tokenizer,
                                  TokenizedExample& out) {
  std::vector<std::vector<int64_t>> contexts;
  std::vector<int64_t> shared;
  for (size_t i = 0; i < example.choices.size(); ++i) {
    const std::string context = example.prompt + example.leads[i];
    contexts.push_back(tokenizer.encode(context));
    out.choice_ids.push_back(choice_tokens(example, context, i, contexts.back().size(), tokenizer));
    if (i == 0) shared = contexts.back();
    const auto differ =
        std::mismatch(shared.begin(), shared.end(), contexts.back().begin(), contexts.back().end());
    shared.erase(differ.first, shared.end());
  }
  for (size_t i = 0; i < contexts.size(); ++i) {
    const auto beyond = contexts[i].begin() + std::ssize(shared);
    out.lead_counts.push_back(contexts[i].end() - beyond);
    out.choice_ids[i].insert(out.choice_ids[i].begin(), beyond, contexts[i].end());
  }
  return shared;
}

}  // namespace

TokenizedExample tokenize(const Example& example, const Tokenizer& tokenizer, bool bos) {
  check_example(example);
  TokenizedExample out;
  out.answer = example.answer;
  out.prompt = example.prompt;
  out.lengths = example.lengths;
  const bool leads = !example.leads.empty();
  const std::vector<int64_t> ids =
      leads ? encode_leads(example, tokenizer, out) : encode_plain(example, tokenizer, out);
  if (bos) out.prompt_ids = leading_special(example, tokenizer);
  const int64_t shift = std::ssize(out.prompt_ids);
  out.prompt_ids.insert(out.prompt_ids.end(), ids.begin(), ids.end());
  HEADLENS_CHECK(TaskError, !out.prompt_ids.empty(),
                 "[task] {}: contexts, expected to begin with the same token, got none in common",
                 example.source);
  for (const Segment& segment : prompt_segments(example, ids, tokenizer)) {
    out.segments.push_back({segment.start + shift, segment.end + shift});
  }
  for (const int64_t& id : out.prompt_ids) out.tokens.push_back(tokenizer.decode({&id, 1}));
  return out;
}

std::vector<TokenizedExample> tokenize(const Task& task, const Tokenizer& tokenizer, bool bos) {
  std::vector<TokenizedExample> out(task.examples.size());
  at::parallel_for(0, std::ssize(out), /*grain_size=*/4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const size_t index = static_cast<size_t>(i);
      out[index] = tokenize(task.examples[index], tokenizer, bos);
    }
  });
  return out;
}

}  // namespace headlens
