// headlens/model: what becomes of the matches when a text is split at them.
#pragma once

#include <string>
#include <vector>

#include "core/json_fields.h"
#include "model/tokenizer_pretokenize.h"
#include "model/tokenizer_regex.h"

namespace headlens {

/// Where a match goes: out, alone, to a neighbour, or together with the matches beside it.
enum class SplitBehavior { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };

/// Reads the key "behavior". Throws ConfigError.
SplitBehavior read_behavior(const JsonFields& fields);

/// Joins and drops pieces as `behavior` says and appends what is left, shifted by `offset`.
/// The pieces' flags may be changed.
void append_split(std::vector<Piece>& pieces, SplitBehavior behavior, size_t offset,
                  std::vector<Span>& spans);

}  // namespace headlens
