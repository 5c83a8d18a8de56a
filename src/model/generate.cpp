// headlens/model: text that a model writes after prompts.
#include "headlens/model/generate.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.h"
#include "core/value_bytes.h"
#include "model/continuation.h"
#include "model/generation_steps.h"
#include "model/sampling.h"

namespace headlens {
namespace {

using Prompts = std::vector<std::vector<int64_t>>;

bool has(const std::vector<int64_t>& list, int64_t token) {
  return std::find(list.begin(), list.end(), token) != list.end();
}

void check_options(const GenerateOptions& o, bool has_tokenizer) {
  HEADLENS_CHECK(UsageError, o.max_new_tokens >= 1,
                 "[generate] max_new_tokens, expected 1 or more, got {}", o.max_new_tokens);
  HEADLENS_CHECK(UsageError, std::isfinite(o.temperature) && o.temperature >= 0,
                 "[generate] temperature, expected 0 or more, got {}", o.temperature);
  HEADLENS_CHECK(UsageError, o.top_p > 0 && o.top_p <= 1,
                 "[generate] top_p, expected above 0 and at most 1, got {}", o.top_p);
  HEADLENS_CHECK(UsageError, o.max_batch_tokens >= 1,
                 "[generate] max_batch_tokens, expected 1 or more, got {}", o.max_batch_tokens);
  HEADLENS_CHECK(UsageError, o.stops.empty() || has_tokenizer,
                 "[generate] stops, expected with a tokenizer, got {} without", o.stops.size());
  for (const std::string& stop : o.stops) {
    HEADLENS_CHECK(UsageError, !stop.empty(), "[generate] stops, expected texts, got '{}'", stop);
  }
}

void check_prompts(const ModelConfig& config, const Prompts& prompts, int64_t new_tokens) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    HEADLENS_CHECK(ShapeError, !prompts[i].empty(),
                   "[generate] prompt {}, expected at least 1 token, got 0", i);
    const int64_t fed = std::ssize(prompts[i]) + new_tokens - 1;  // the last one is not
    HEADLENS_CHECK(ShapeError, config.max_position == 0 || fed <= config.max_position,
                   "[generate] prompt {} with {} new tokens, expected at most the {} positions "
                   "that were learned, got {}",
                   i, new_tokens, config.max_position, fed);
  }
}

/// Prompts of like length together, as indices into the list.
std::vector<std::vector<int64_t>> group(const Prompts& prompts, const GenerateOptions& options) {
  std::vector<int64_t> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  const auto length = [&](int64_t i) { return std::ssize(prompts[static_cast<size_t>(i)]); };
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return length(a) < length(b); });
  std::vector<std::vector<int64_t>> batches;
  for (const int64_t i : order) {
    const int64_t row = length(i) + options.max_new_tokens;
    const bool fits =
        !batches.empty() && (std::ssize(batches.back()) + 1) * row <= options.max_batch_tokens;
    if (!fits) batches.emplace_back();
    batches.back().push_back(i);
  }
  return batches;
}

PaddedPrompts padded(const Prompts& prompts, const std::vector<int64_t>& rows,
                     const GenerateOptions& options) {
  const auto prompt = [&](int64_t row) -> const std::vector<int64_t>& {
    return prompts[static_cast<size_t>(row)];
  };
  const auto width = std::ssize(prompt(rows.back()));  // the longest
  PaddedPrompts batch;
  batch.room = width + options.max_new_tokens, batch.tap = options.tap;
  batch.ids = at::zeros({std::ssize(rows), width}, at::kLong);
  const Tensor first = at::zeros({std::ssize(rows)}, at::kLong);
  for (int64_t i = 0; i < std::ssize(rows); ++i) {
    const std::vector<int64_t>& ids = prompt(rows[static_cast<size_t>(i)]);
    const int64_t begin = width - std::ssize(ids);
    first[i] = begin;
    batch.ids[i].slice(0, begin).copy_(at::tensor(ids, at::kLong));
  }
  if (first.any().item<bool>()) batch.first = first;
  return batch;
}

/// One text as it grows.
class Text {
 public:
  Text(const ModelConfig& config, const Tokenizer* tokenizer, const GenerateOptions& options,
       const std::vector<int64_t>& prompt, Generation& out)
      : config_(config), tokenizer_(tokenizer), options_(options), prompt_(prompt), out_(out) {}

  bool ended() const { return ended_; }
  void add(int64_t token, double logprob) {
    if (ended_) return;
    out_.tokens.push_back(token);
    out_.logprobs.push_back(logprob);
    const bool end = !options_.ignore_end_tokens && has(config_.eos_token_ids, token);
    if (end || has(options_.stop_tokens, token)) {
      finish(end ? EndReason::EndToken : EndReason::StopToken, out_.tokens.size() - 1);
    } else if (!stopped_by_text() && std::ssize(out_.tokens) == options_.max_new_tokens) {
      finish(EndReason::Length, out_.tokens.size());
    }
  }

 private:
  std::string text_of(size_t tokens) const {
    if (tokenizer_ == nullptr) return {};
    return continuation_text(*tokenizer_, prompt_, std::span(out_.tokens).first(tokens));
  }
  bool stopped_by_text() {
    if (options_.stops.empty()) return false;
    const std::string text = text_of(out_.tokens.size());
    const auto stop = find_stop(text, options_.stops);
    if (!stop) return false;
    out_.text = text.substr(0, stop->begin), out_.stop = options_.stops[stop->index];
    out_.end = EndReason::StopString, ended_ = true;
    return true;
  }
  void finish(EndReason end, size_t tokens) {
    out_.text = text_of(tokens), out_.end = end, ended_ = true;
  }

  const ModelConfig& config_;
  const Tokenizer* tokenizer_;
  const GenerateOptions& options_;
  const std::vector<int64_t>& prompt_;
  Generation& out_;
  bool ended_ = false;
};

/// float64 [row]
Tensor draws_of(const std::vector<int64_t>& rows, int64_t step, const GenerateOptions& options) {
  if (options.temperature == 0) return {};
  std::vector<double> draws;
  for (const int64_t row : rows) {
    draws.push_back(sampling_draw(options.seed, options.first_number + row, step));
  }
  return at::tensor(draws, at::kDouble);
}

void run_batch(const LanguageModel& model, const PaddedPrompts& batch,
               const std::vector<int64_t>& rows, std::vector<Text>& texts,
               const GenerateOptions& options) {
  const auto steps = generation_steps(model, batch);
  Tensor logits = steps->prompt();
  for (int64_t step = 0;; ++step) {
    const ChosenTokens chosen =
        choose_tokens(logits, options.temperature, options.top_p, draws_of(rows, step, options));
    for (size_t i = 0; i < texts.size(); ++i) {
      texts[i].add(chosen.ids.const_data_ptr<int64_t>()[i],
                   chosen.logprobs.const_data_ptr<double>()[i]);
    }
    if (std::all_of(texts.begin(), texts.end(), [](const Text& t) { return t.ended(); })) return;
    logits = steps->next(chosen.ids);
  }
}

std::string generation_bytes(const std::vector<Generation>& all, const std::vector<int64_t>& rows) {
  ValueWriter out;
  for (const int64_t row : rows) {
    const Generation& made = all[static_cast<size_t>(row)];
    out.put_list(made.tokens), out.put_list(made.logprobs);
    out.put_text(made.text), out.put_text(made.stop);
    out.put(made.end);
  }
  return std::move(out.bytes);
}

void read_generations(const std::string& bytes, const std::vector<int64_t>& rows,
                      std::vector<Generation>& all) {
  ValueReader in(bytes);
  for (const int64_t row : rows) {
    Generation& made = all[static_cast<size_t>(row)];
    made.tokens = in.get_list<int64_t>(), made.logprobs = in.get_list<double>();
    made.text = in.get_text(), made.stop = in.get_text();
    made.end = in.get<EndReason>();
  }
}

std::vector<Generation> run(const LanguageModel& model, const Tokenizer* tokenizer,
                            const Prompts& prompts, const GenerateOptions& options) {
  const c10::NoGradGuard no_grad;
  check_options(options, tokenizer != nullptr);
  check_prompts(model.config(), prompts, options.max_new_tokens);
  std::vector<Generation> all(prompts.size());
  int64_t done = 0;
  for (const std::vector<int64_t>& rows : group(prompts, options)) {
    const std::string key =
        fmt::format("texts {} to {}, {} rows", done, prompts.size(), rows.size());
    const std::string bytes = kept_step(options.steps, key, [&] {
      if (options.on_batch) options.on_batch(rows);
      std::vector<Text> texts;
      for (const int64_t row : rows) {
        const auto i = static_cast<size_t>(row);
        texts.emplace_back(model.config(), tokenizer, options, prompts[i], all[i]);
      }
      run_batch(model, padded(prompts, rows, options), rows, texts, options);
      return options.steps ? generation_bytes(all, rows) : std::string();
    });
    if (options.steps) read_generations(bytes, rows, all);
    done += std::ssize(rows);
    if (options.progress) options.progress(done, std::ssize(prompts));
  }
  return all;
}

}  // namespace

const char* end_reason_name(EndReason reason) {
  switch (reason) {
    case EndReason::Length:
      return "length";
    case EndReason::EndToken:
      return "end_token";
    case EndReason::StopToken:
      return "stop_token";
    case EndReason::StopString:
      return "stop_string";
  }
  return "";
}

std::vector<Generation> generate(const LanguageModel& model, const Prompts& prompts,
                                 const GenerateOptions& options) {
  return run(model, nullptr, prompts, options);
}

std::vector<Generation> generate(const LanguageModel& model, const Tokenizer& tokenizer,
                                 const Prompts& prompts, const GenerateOptions& options) {
  return run(model, &tokenizer, prompts, options);
}

std::vector<Generation> generate(const LanguageModel& model, const Tokenizer& tokenizer,
                                 const std::vector<std::string>& prompts,
                                 const GenerateOptions& options, bool bos) {
  Prompts ids;
  for (const std::string& prompt : prompts) ids.push_back(tokenizer.encode(prompt, bos));
  return run(model, &tokenizer, ids, options);
}

}  // namespace headlens
