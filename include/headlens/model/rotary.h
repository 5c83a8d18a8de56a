// headlens/model: rotary position embedding (arXiv 2104.09864).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/model/config.h"
#include "headlens/model/prompt.h"

namespace headlens {

/// Radians per position of each rotated pair, [rotary_dim / 2], in a text of `length` tokens
/// (dynamic and long scalings depend on it).
std::vector<double> rotary_frequencies(const RopeSpec& spec, int64_t length = 0);

/// What multiplies cosines and sines (YaRN, LongRoPE); 1 otherwise.
double rotary_attention_factor(const RopeSpec& spec);

/// Cosines and sines of a run of positions, both [batch or 1, pos, 1, rotary_dim / 2].
struct RotaryTable {
  Tensor cos;  ///< of position times frequency
  Tensor sin;  ///< likewise
};

/// The tables that a forward has made so far.
struct RotaryTables {
  /// One table and what it was made for.
  struct Entry {
    RopeSpec spec;         ///< the spec
    at::Device device;     ///< where it lies
    at::ScalarType dtype;  ///< its dtype
    int64_t count;         ///< positions
    RotaryTable table;     ///< the table
  };
  std::vector<Entry> entries;  ///< in the order they were made
};

/// Angles in float64, whatever the model computes in; the table in at least float32.
class Rotary {
 public:
  /// Wavelengths of the spec, on `device`.
  Rotary(const RopeSpec& spec, at::Device device);

  /// The table of `count` positions from `prompt.start`, counted from each row's first token, for
  /// tensors of `dtype`. ShapeError where a text goes on from a state and its growth changes the
  /// frequencies: what is cached was turned by others.
  RotaryTable table(const Prompt& prompt, int64_t count, at::ScalarType dtype) const;

 private:
  RotaryTable make_table(const Prompt& prompt, int64_t count, at::ScalarType dtype) const;
  Tensor frequencies(const Prompt& prompt, int64_t count) const;

  RopeSpec spec_;
  Tensor frequencies_;  // [rotary_dim / 2] float64, where no length changes them
};

/// Rotates dimensions (i, i + rotary_dim / 2) of each head and leaves those past rotary_dim as they
/// are. x [batch, pos, head, d_head] -> the same shape and dtype.
Tensor rotate(const Tensor& x, const RotaryTable& table);

}  // namespace headlens
