// headlens/model: the text that new tokens add to a prompt, and where it stops.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/model/tokenizer.h"

namespace headlens {

/// What `ids` add after a prompt: decoded behind its last tokens, for a first token may be written
/// otherwise at the start of a text (SentencePiece drops a space there).
std::string continuation_text(const Tokenizer& tokenizer, std::span<const int64_t> prompt,
                              std::span<const int64_t> ids);

/// Where a text stops, and at which of the strings.
struct StopPlace {
  size_t begin = 0;
  size_t index = 0;
};

/// The stop string that begins first; of those that begin at one place, the first in the list.
std::optional<StopPlace> find_stop(std::string_view text, const std::vector<std::string>& stops);

}  // namespace headlens
