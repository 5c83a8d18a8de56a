// headlens/tasks: from bytes of a text to its tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

class Tokenizer;

/// The tokens that hold each byte span: from the token with its first byte to the one with its
/// last. `ids` must be tokenizer.encode(text). A token that straddles an edge of a span belongs to
/// it. Throws TaskError (`source` opens the message) for a span out of the text or without any
/// token.
std::vector<Segment> token_spans(std::string_view text, const std::vector<int64_t>& ids,
                                 const std::vector<ByteSpan>& spans, const Tokenizer& tokenizer,
                                 const std::string& source);

}  // namespace headlens
