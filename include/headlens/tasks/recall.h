// headlens/tasks: made tasks of copying and recall, the probes of work on recurrent models' memory.
#pragma once

#include <cstdint>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

// All are made of distinct words of our own list; choices are " word", one right. Segment i is the
// stretch that holds choice i. UsageError for options out of range.

/// Options of the task mqar.
struct MqarOptions {
  int64_t pairs = 16;   ///< 2 .. 128
  int64_t queries = 4;  ///< 1 .. pairs; all but the last are answered
  int64_t n = 512;      ///< examples
};

/// Multi-query associative recall (arXiv 2312.04927): "key value" a line, an empty line, then some
/// of the pairs again, the last without its value. Choices are the values in the lines' order,
/// segments the lines.
std::vector<Example> make_mqar(const MqarOptions& options, uint64_t seed);

/// Options of the tasks copy and induction.
struct CopyOptions {
  int64_t length = 20;  ///< words, 3 .. 256
  int64_t n = 512;      ///< examples
};

/// Copying (Repeat After Me, arXiv 2402.01032): a row of words, then its beginning again on the
/// next line, up to a random place. Choices are the words from the second on; each is its segment.
std::vector<Example> make_copy(const CopyOptions& options, uint64_t seed);

/// Induction: a row of words, then one of them again: what comes next? As make_copy otherwise.
std::vector<Example> make_induction(const CopyOptions& options, uint64_t seed);

/// Options of the task copy-ngram.
struct NgramOptions {
  int64_t firsts = 4;   ///< 2 .. 11
  int64_t seconds = 4;  ///< 2 .. 11
  int64_t n = 512;      ///< examples
};

/// Lookup of what follows two words (the paper's n-gram lookup): each of `firsts` words is followed
/// by each of `seconds` words and a word of its own, in random order; then two are asked for. One
/// word alone does not tell. Segments are the three words together.
std::vector<Example> make_ngram_lookup(const NgramOptions& options, uint64_t seed);

/// Options of the task selective-copy.
struct SelectiveCopyOptions {
  int64_t items = 8;    ///< 3 .. 128
  int64_t length = 32;  ///< words and fillers, items .. 1024
  int64_t n = 512;      ///< examples
};

/// Selective copying (Mamba, arXiv 2312.00752): words among fillers ".", then the words alone up to
/// a random place. Choices are the words from the second on; each is its segment.
std::vector<Example> make_selective_copy(const SelectiveCopyOptions& options, uint64_t seed);

}  // namespace headlens
