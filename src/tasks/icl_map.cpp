// headlens/tasks: mappings shown by example, the probe of in-context learning.
#include "headlens/tasks/icl_map.h"

#include <algorithm>
#include <cctype>

#include "core/check.h"
#include "tasks/draw.h"
#include "tasks/word_list.h"

namespace headlens {
namespace {

constexpr int64_t kMappings = 7;

char capital(char c) {
  return static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
}

/// The images of a word under every mapping.
std::vector<std::string> images(std::string_view word) {
  const std::string same(word);
  std::string first = same, all = same, backwards = same;
  first[0] = capital(first[0]);
  std::transform(all.begin(), all.end(), all.begin(), capital);
  std::reverse(backwards.begin(), backwards.end());
  return {same, first, all, same.substr(0, 1), same.substr(same.size() - 1), same + "s", backwards};
}

/// Words whose images all differ.
std::vector<std::string_view> clear_words() {
  std::vector<std::string_view> out;
  for (const std::string_view word : word_list()) {
    std::vector<std::string> all = images(word);
    std::sort(all.begin(), all.end());
    if (std::adjacent_find(all.begin(), all.end()) == all.end()) out.push_back(word);
  }
  return out;
}

Example draw_example(const std::vector<std::string_view>& words, int64_t shots, Draw& draw) {
  const std::vector<int64_t> chosen = draw.sample(shots + 1, std::ssize(words));
  Example example;
  example.answer = draw.below(kMappings);
  for (int64_t i = 0; i < shots; ++i) {
    const std::string_view word = words[static_cast<size_t>(chosen[static_cast<size_t>(i)])];
    const size_t begin = example.prompt.size();
    example.prompt.append(word).append(": ");
    example.prompt += images(word)[static_cast<size_t>(example.answer)];
    example.spans.push_back({begin, example.prompt.size()});
    example.prompt += '\n';
  }
  const std::string_view asked = words[static_cast<size_t>(chosen.back())];
  example.prompt.append(asked).append(":");
  for (const std::string& image : images(asked)) example.choices.push_back(" " + image);
  return example;
}

}  // namespace

std::vector<Example> make_icl_map(const IclMapOptions& options, uint64_t seed) {
  HEADLENS_CHECK(UsageError, options.shots >= 1 && options.shots < kMappings,
                 "[task] icl-map: shots, expected 1 to {}, got {}", kMappings - 1, options.shots);
  HEADLENS_CHECK(UsageError, options.n > 0, "[task] icl-map: n, expected at least 1, got {}",
                 options.n);
  const std::vector<std::string_view> words = clear_words();
  Draw draw(seed);
  std::vector<Example> examples;
  for (int64_t i = 0; i < options.n; ++i) {
    examples.push_back(draw_example(words, options.shots, draw));
    examples.back().source = fmt::format("icl-map example {}", i + 1);
  }
  return examples;
}

}  // namespace headlens
