// headlens/tasks: key-value retrieval, the study's probe (arXiv 2504.18574, section 5).
#include "headlens/tasks/kv_retrieval.h"

#include "core/check.h"
#include "tasks/prompts.h"

namespace headlens {

std::vector<Example> make_kv_retrieval(const KvOptions& options, uint64_t seed) {
  HEADLENS_CHECK(UsageError, options.pairs >= 2 && options.pairs <= kDictionaryValues,
                 "[task] kv: pairs, expected 2 to {}, got {}", kDictionaryValues, options.pairs);
  HEADLENS_CHECK(UsageError, options.n > 0, "[task] kv: n, expected at least 1, got {}", options.n);
  Draw draw(seed);
  std::vector<Example> examples;
  for (int64_t i = 0; i < options.n; ++i) {
    const Dictionary dictionary = draw_dictionary(options.pairs, draw);
    PromptText prompt = dictionary_text(dictionary);
    Example example;
    example.answer = draw.below(options.pairs);
    const std::string_view key = dictionary.keys[static_cast<size_t>(example.answer)];
    example.prompt = prompt.text + dictionary_query(key);
    for (const std::string& value : dictionary.values) example.choices.push_back(" " + value);
    example.spans = std::move(prompt.spans);
    example.source = fmt::format("kv example {}", i + 1);
    examples.push_back(std::move(example));
  }
  return examples;
}

}  // namespace headlens
