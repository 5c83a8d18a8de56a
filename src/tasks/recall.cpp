// headlens/tasks: made tasks of copying and recall, the probes of work on recurrent models' memory.
#include "headlens/tasks/recall.h"

#include <algorithm>

#include "core/check.h"
#include "tasks/draw.h"
#include "tasks/prompts.h"
#include "tasks/word_list.h"

namespace headlens {
namespace {

using Words = std::vector<std::string_view>;

Words draw_words(int64_t count, Draw& draw) {
  Words out;
  for (const int64_t i : draw.sample(count, std::ssize(word_list()))) {
    out.push_back(word_list()[static_cast<size_t>(i)]);
  }
  return out;
}

void check_range(const char* task, const char* name, int64_t value, int64_t low, int64_t high) {
  HEADLENS_CHECK(UsageError, value >= low && value <= high,
                 "[task] {}: {}, expected {} to {}, got {}", task, name, low, high, value);
}

/// n examples, each drawn by `make`, with their source.
template <typename Make>
std::vector<Example> draw_examples(const char* task, int64_t n, uint64_t seed, Make make) {
  HEADLENS_CHECK(UsageError, n > 0, "[task] {}: n, expected at least 1, got {}", task, n);
  Draw draw(seed);
  std::vector<Example> examples;
  for (int64_t i = 0; i < n; ++i) {
    examples.push_back(make(draw));
    examples.back().source = fmt::format("{} example {}", task, i + 1);
  }
  return examples;
}

/// Appends words with spaces between them and returns the bytes they take.
ByteSpan append_words(std::string& text, std::initializer_list<std::string_view> words) {
  if (!text.empty() && text.back() != '\n') text += ' ';
  const size_t begin = text.size();
  for (const std::string_view word : words) {
    if (text.size() > begin) text += ' ';
    text += word;
  }
  return {begin, text.size()};
}

void append_words(std::string& text, const Words& words, int64_t count) {
  for (int64_t i = 0; i < count; ++i) append_words(text, {words[static_cast<size_t>(i)]});
}

void add_choice(Example& example, std::string_view word, const ByteSpan& span) {
  example.choices.push_back(" " + std::string(word));
  example.spans.push_back(span);
}

/// A row in the prompt whose words, from the second on, are the choices; `spans` are all of them.
void choose_among_later(Example& example, const Words& row, const std::vector<ByteSpan>& spans) {
  for (size_t i = 1; i < row.size(); ++i) add_choice(example, row[i], spans[i]);
}

std::vector<ByteSpan> append_row(std::string& text, const Words& row) {
  std::vector<ByteSpan> spans;
  for (const std::string_view word : row) spans.push_back(append_words(text, {word}));
  return spans;
}

/// Which of `items` places in a row of `length` hold a word, in their order.
std::vector<int64_t> draw_places(int64_t items, int64_t length, Draw& draw) {
  std::vector<int64_t> places = draw.sample(items, length);
  std::sort(places.begin(), places.end());
  return places;
}

}  // namespace

std::vector<Example> make_mqar(const MqarOptions& options, uint64_t seed) {
  const int64_t pairs = options.pairs;
  check_range("mqar", "pairs", pairs, 2, 128);
  check_range("mqar", "queries", options.queries, 1, pairs);
  return draw_examples("mqar", options.n, seed, [&](Draw& draw) {
    const Words words = draw_words(2 * pairs, draw);  // keys, then values
    const std::vector<int64_t> asked = draw.sample(options.queries, pairs);
    const auto key = [&](int64_t i) { return words[static_cast<size_t>(i)]; };
    const auto value = [&](int64_t i) { return words[static_cast<size_t>(pairs + i)]; };
    Example example;
    for (int64_t i = 0; i < pairs; ++i) {
      add_choice(example, value(i), append_words(example.prompt, {key(i), value(i)}));
      example.prompt += '\n';
    }
    example.prompt += '\n';
    for (size_t q = 0; q + 1 < asked.size(); ++q) {
      append_words(example.prompt, {key(asked[q]), value(asked[q])});
      example.prompt += '\n';
    }
    append_words(example.prompt, {key(asked.back())});
    example.answer = asked.back();
    return example;
  });
}

std::vector<Example> make_copy(const CopyOptions& options, uint64_t seed) {
  check_range("copy", "length", options.length, 3, std::ssize(word_list()));
  return draw_examples("copy", options.n, seed, [&](Draw& draw) {
    const Words row = draw_words(options.length, draw);
    Example example;
    choose_among_later(example, row, append_row(example.prompt, row));
    example.prompt += '\n';
    const int64_t shown = draw.between(1, options.length - 1);
    append_words(example.prompt, row, shown);
    example.answer = shown - 1;
    return example;
  });
}

std::vector<Example> make_induction(const CopyOptions& options, uint64_t seed) {
  check_range("induction", "length", options.length, 3, std::ssize(word_list()));
  return draw_examples("induction", options.n, seed, [&](Draw& draw) {
    const Words row = draw_words(options.length, draw);
    Example example;
    choose_among_later(example, row, append_row(example.prompt, row));
    example.answer = draw.below(options.length - 1);
    append_words(example.prompt, {row[static_cast<size_t>(example.answer)]});
    return example;
  });
}

std::vector<Example> make_ngram_lookup(const NgramOptions& options, uint64_t seed) {
  check_range("copy-ngram", "firsts", options.firsts, 2, 11);
  check_range("copy-ngram", "seconds", options.seconds, 2, 11);
  const int64_t blocks = options.firsts * options.seconds;
  return draw_examples("copy-ngram", options.n, seed, [&](Draw& draw) {
    const int64_t fixed = options.firsts + options.seconds;
    const Words words = draw_words(fixed + blocks, draw);  // firsts, seconds, what follows them
    const auto first = [&](int64_t block) {
      return words[static_cast<size_t>(block / options.seconds)];
    };
    const auto second = [&](int64_t block) {
      return words[static_cast<size_t>(options.firsts + block % options.seconds)];
    };
    Example example;
    const std::vector<int64_t> order = draw.sample(blocks, blocks);
    for (const int64_t block : order) {
      const std::string_view next = words[static_cast<size_t>(fixed + block)];
      const ByteSpan span = append_words(example.prompt, {first(block), second(block), next});
      add_choice(example, next, span);
    }
    example.prompt += '\n';
    example.answer = draw.below(blocks);
    const int64_t asked = order[static_cast<size_t>(example.answer)];
    append_words(example.prompt, {first(asked), second(asked)});
    return example;
  });
}

std::vector<Example> make_selective_copy(const SelectiveCopyOptions& options, uint64_t seed) {
  check_range("selective-copy", "items", options.items, 3, 128);
  check_range("selective-copy", "length", options.length, options.items, 1024);
  return draw_examples("selective-copy", options.n, seed, [&](Draw& draw) {
    const Words row = draw_words(options.items, draw);
    const std::vector<int64_t> places = draw_places(options.items, options.length, draw);
    Example example;
    std::vector<ByteSpan> spans;
    for (int64_t at = 0; at < options.length; ++at) {
      const bool word = spans.size() < row.size() && places[spans.size()] == at;
      const ByteSpan span = append_words(example.prompt, {word ? row[spans.size()] : "."});
      if (word) spans.push_back(span);
    }
    choose_among_later(example, row, spans);
    example.prompt += '\n';
    const int64_t shown = draw.between(1, options.items - 1);
    append_words(example.prompt, row, shown);
    example.answer = shown - 1;
    return example;
  });
}

}  // namespace headlens
