// headlens/model: what a config says of rotary positions.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

namespace headlens {

/// Llama-3's frequency-dependent stretching of the rotary wavelengths ("rope_type": "llama3").
struct Llama3RopeScaling {
  double factor = 1;                    ///< of slow dimensions' wavelengths
  double low_freq_factor = 1;           ///< turns below which a dimension is slow
  double high_freq_factor = 4;          ///< turns above which it is fast
  double original_max_position = 8192;  ///< positions that turns are counted in
  bool operator==(const Llama3RopeScaling&) const = default;
};

/// Positions divided by `factor` ("linear").
struct LinearRopeScaling {
  double factor = 1;  ///< above 1 for longer texts
  bool operator==(const LinearRopeScaling&) const = default;
};

/// A base that grows with the text once it is longer than `max_position` ("dynamic", NTK-aware).
struct DynamicRopeScaling {
  double factor = 1;        ///< of the length
  double max_position = 0;  ///< up to which nothing changes
  bool operator==(const DynamicRopeScaling&) const = default;
};

/// YaRN (arXiv 2309.00071): slow dimensions interpolated by `factor`, fast ones kept, a ramp
/// between the dimensions that turn `beta_slow` and `beta_fast` times in `original_max_position`.
struct YarnRopeScaling {
  double factor = 1;                 ///< of slow dimensions' wavelengths
  double original_max_position = 0;  ///< positions that turns are counted in
  double beta_fast = 32;             ///< turns
  double beta_slow = 1;              ///< turns
  bool truncate = true;              ///< the ramp starts and ends at whole dimensions
  double attention_factor = 1;       ///< multiplies cosines and sines
  bool operator==(const YarnRopeScaling&) const = default;
};

/// LongRoPE (arXiv 2402.13753): each wavelength times its own factor, one list for texts up to
/// `original_max_position`, one for longer ones.
struct LongRopeScaling {
  std::vector<double> short_factor;  ///< [rotary_dim / 2]
  std::vector<double> long_factor;   ///< [rotary_dim / 2]
  double original_max_position = 0;  ///< see above
  double attention_factor = 1;       ///< multiplies cosines and sines
  bool operator==(const LongRopeScaling&) const = default;
};

/// How frequencies change for long texts; monostate: not at all.
using RopeScaling = std::variant<std::monostate, LinearRopeScaling, DynamicRopeScaling,
                                 Llama3RopeScaling, YarnRopeScaling, LongRopeScaling>;

/// Rotary position embedding over the first `rotary_dim` of each head's dimensions.
struct RopeSpec {
  double theta = 10000;    ///< base of the wavelengths
  int64_t rotary_dim = 0;  ///< even
  RopeScaling scaling;     ///< of long texts
  bool operator==(const RopeSpec&) const = default;
};

}  // namespace headlens
