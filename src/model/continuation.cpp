// headlens/model: the text that new tokens add to a prompt, and where it stops.
#include "model/continuation.h"

#include <algorithm>

namespace headlens {

std::string continuation_text(const Tokenizer& tokenizer, std::span<const int64_t> prompt,
                              std::span<const int64_t> ids) {
  constexpr size_t kContext = 8;  // more than the four that one letter may take
  const auto context = prompt.last(std::min(prompt.size(), kContext));
  std::vector<int64_t> both(context.begin(), context.end());
  both.insert(both.end(), ids.begin(), ids.end());
  const std::string before = tokenizer.decode(context), whole = tokenizer.decode(both);
  // Not so where the prompt ends inside a letter that the new tokens complete.
  return whole.starts_with(before) ? whole.substr(before.size()) : tokenizer.decode(ids);
}

std::optional<StopPlace> find_stop(std::string_view text, const std::vector<std::string>& stops) {
  std::optional<StopPlace> found;
  for (size_t i = 0; i < stops.size(); ++i) {
    const size_t begin = text.find(stops[i]);
    if (begin == std::string_view::npos || (found && found->begin <= begin)) continue;
    found = StopPlace{begin, i};
  }
  return found;
}

}  // namespace headlens
