// headlens/tasks: mappings shown by example, the probe of in-context learning.
#pragma once

#include <cstdint>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

/// Options of the task icl-map.
struct IclMapOptions {
  int64_t shots = 4;  ///< 1 .. 6
  int64_t n = 512;    ///< examples
};

/// Which mapping is it (in the manner of arXiv 2504.00132)? "word: image" a line under one of seven
/// mappings of spelling, then "word:" with a new word. Choices are the word's images under all
/// seven, in a fixed order: the word itself, Capitalised, IN CAPITALS, its first letter, its last
/// letter, with an s, backwards. Any one example tells the mapping. Segments are the examples,
/// fewer than the choices, so none of them is the right one. UsageError for options out of range.
std::vector<Example> make_icl_map(const IclMapOptions& options, uint64_t seed);

}  // namespace headlens
