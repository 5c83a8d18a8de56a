// headlens/tasks: key-value retrieval, the study's probe (arXiv 2504.18574, section 5).
#pragma once

#include <cstdint>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

/// Options of the task kv.
struct KvOptions {
  int64_t pairs = 20;  ///< 2 .. 100
  int64_t n = 512;     ///< examples
};

/// "Memorize the following dictionary:\nkey:value\n...The value of the key 'key' is", keys distinct
/// words of our own list, values distinct integers 0 .. 99. Choices are " value" of every pair in
/// the dictionary's order; span i is pair i, "key:value", so its summary token is the last of the
/// value.
std::vector<Example> make_kv_retrieval(const KvOptions& options, uint64_t seed);

}  // namespace headlens
