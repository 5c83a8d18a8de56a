// headlens/tasks: examples as token ids.
#include <ATen/Parallel.h>

#include "core/check.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/task.h"
#include "tasks/token_spans.h"

namespace headlens {
namespace {

void check_example(const Example& example) {
  HEADLENS_CHECK(TaskError, !example.prompt.empty(), "[task] {}: 'prompt', expected text, got none",
                 example.source);
  HEADLENS_CHECK(TaskError, example.choices.size() >= 2,
                 "[task] {}: 'choices', expected at least 2, got {}", example.source,
                 example.choices.size());
  HEADLENS_CHECK(TaskError, example.answer >= 0 && example.answer < std::ssize(example.choices),
                 "[task] {}: 'answer', expected 0 to {}, got {}", example.source,
                 std::ssize(example.choices) - 1, example.answer);
}

std::vector<int64_t> choice_tokens(const Example& example, size_t choice, size_t prompt_size,
                                   const Tokenizer& tokenizer) {
  const auto ids = tokenizer.encode(example.prompt + example.choices[choice]);
  HEADLENS_CHECK(TaskError, ids.size() > prompt_size,
                 "[task] {}: choice {} ('{}'), expected tokens past the prompt's {}, got {} in all",
                 example.source, choice, example.choices[choice], prompt_size, ids.size());
  return {ids.begin() + static_cast<std::ptrdiff_t>(prompt_size), ids.end()};
}

/// What the tokenizer's post-processor puts before a text.
std::vector<int64_t> leading_special(const Example& example, const std::vector<int64_t>& plain,
                                     const Tokenizer& tokenizer) {
  const auto full = tokenizer.encode(example.prompt, /*add_special_tokens=*/true);
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

}  // namespace

TokenizedExample tokenize(const Example& example, const Tokenizer& tokenizer, bool bos) {
  check_example(example);
  const std::vector<int64_t> ids = tokenizer.encode(example.prompt);
  HEADLENS_CHECK(TaskError, !ids.empty(), "[task] {}: 'prompt', expected tokens, got none",
                 example.source);
  TokenizedExample out;
  out.answer = example.answer;
  out.prompt = example.prompt;
  for (size_t i = 0; i < example.choices.size(); ++i) {
    out.choice_ids.push_back(choice_tokens(example, i, ids.size(), tokenizer));
  }
  if (bos) out.prompt_ids = leading_special(example, ids, tokenizer);
  const int64_t shift = std::ssize(out.prompt_ids);
  out.prompt_ids.insert(out.prompt_ids.end(), ids.begin(), ids.end());
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
