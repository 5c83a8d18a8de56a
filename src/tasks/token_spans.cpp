// headlens/tasks: from bytes of a text to its tokens.
#include "tasks/token_spans.h"

#include <algorithm>
#include <map>
#include <optional>

#include "core/check.h"
#include "headlens/model/tokenizer.h"

namespace headlens {
namespace {

/// Number of tokens before a byte, for the bytes where a token begins or ends.
using Edges = std::map<size_t, int64_t>;

/// Cuts the text at all edges and encodes the pieces: if together they give `ids`, no token
/// straddles an edge.
std::optional<Edges> edges_by_pieces(std::string_view text, const std::vector<int64_t>& ids,
                                     const std::vector<ByteSpan>& spans,
                                     const Tokenizer& tokenizer) {
  Edges edges = {{0, 0}, {text.size(), 0}};
  for (const ByteSpan& span : spans) edges[span.begin] = edges[span.end] = 0;
  std::vector<int64_t> joined;
  for (auto edge = edges.begin(), next = std::next(edge); next != edges.end(); ++edge, ++next) {
    const auto piece = tokenizer.encode(text.substr(edge->first, next->first - edge->first));
    joined.insert(joined.end(), piece.begin(), piece.end());
    next->second = std::ssize(joined);
  }
  return joined == ids ? std::optional(edges) : std::nullopt;
}

/// Tokens in text[0, end) if a token ends there: its encoding then begins the encoding of the
/// whole.
std::optional<int64_t> tokens_before(std::string_view text, const std::vector<int64_t>& ids,
                                     size_t end, const Tokenizer& tokenizer) {
  const bool inside_character = end < text.size() && (text[end] & 0xC0) == 0x80;
  if (inside_character) return std::nullopt;
  const auto prefix = tokenizer.encode(text.substr(0, end));
  const bool begins =
      prefix.size() <= ids.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
  return begins ? std::optional(std::ssize(prefix)) : std::nullopt;
}

/// The slow way, for texts where tokens straddle edges: the nearest token edges outside the span.
Segment segment_by_prefixes(std::string_view text, const std::vector<int64_t>& ids,
                            const ByteSpan& span, const Tokenizer& tokenizer) {
  std::optional<int64_t> start;
  for (size_t begin = span.begin; begin > 0 && !start; --begin) {
    start = tokens_before(text, ids, begin, tokenizer);
  }
  std::optional<int64_t> end;
  for (size_t byte = span.end; byte < text.size() && !end; ++byte) {
    end = tokens_before(text, ids, byte, tokenizer);
  }
  return {start.value_or(0), end.value_or(std::ssize(ids)) - 1};
}

}  // namespace

std::vector<Segment> token_spans(std::string_view text, const std::vector<int64_t>& ids,
                                 const std::vector<ByteSpan>& spans, const Tokenizer& tokenizer,
                                 const std::string& source) {
  for (const ByteSpan& span : spans) {
    HEADLENS_CHECK(TaskError, span.begin < span.end && span.end <= text.size(),
                   "[task] {}: span, expected bytes within 0 to {}, got {} to {}", source,
                   text.size(), span.begin, span.end);
  }
  const auto edges = edges_by_pieces(text, ids, spans, tokenizer);
  std::vector<Segment> segments;
  for (const ByteSpan& span : spans) {
    segments.push_back(edges ? Segment{edges->at(span.begin), edges->at(span.end) - 1}
                             : segment_by_prefixes(text, ids, span, tokenizer));
    HEADLENS_CHECK(TaskError, segments.back().start <= segments.back().end,
                   "[task] {}: span '{}', expected at least one token, got none", source,
                   text.substr(span.begin, span.end - span.begin));
  }
  return segments;
}

}  // namespace headlens
