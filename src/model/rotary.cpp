// headlens/model: rotary position embedding.
#include "headlens/model/rotary.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "model/promote.h"

namespace headlens {
namespace {

/// Llama-3.1's rule: long wavelengths are stretched by `factor`, short ones kept, those between
/// blended.
double stretch(double frequency, const Llama3RopeScaling& scaling) {
  const double turns = scaling.original_max_position * frequency / (2 * std::numbers::pi);
  if (turns < scaling.low_freq_factor) return frequency / scaling.factor;
  if (turns > scaling.high_freq_factor) return frequency;
  const double keep =
      (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - keep) * frequency / scaling.factor + keep * frequency;
}

}  // namespace

std::vector<double> rotary_frequencies(const RopeSpec& spec) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < spec.rotary_dim; i += 2) {
    const double exponent = static_cast<double>(i) / static_cast<double>(spec.rotary_dim);
    const double frequency = std::pow(spec.theta, -exponent);
    frequencies.push_back(spec.llama3 ? stretch(frequency, *spec.llama3) : frequency);
  }
  return frequencies;
}

Rotary::Rotary(const RopeSpec& spec, at::Device device)
    : frequencies_(at::tensor(rotary_frequencies(spec), at::kDouble).to(device)) {}

RotaryTable Rotary::table(int64_t first, int64_t count, at::ScalarType dtype) const {
  const Tensor positions = at::arange(first, first + count, frequencies_.options());
  const Tensor angles = at::outer(positions, frequencies_).unsqueeze(1);
  const at::ScalarType precise = at_least_float32(dtype);
  return {angles.cos().to(precise), angles.sin().to(precise)};
}

Tensor rotate(const Tensor& x, const RotaryTable& table) {
  const int64_t half = table.cos.size(-1);
  const Tensor first = x.narrow(-1, 0, half);
  const Tensor second = x.narrow(-1, half, half);
  const Tensor rotated =
      at::cat({first * table.cos - second * table.sin, second * table.cos + first * table.sin}, -1)
          .to(x.scalar_type());
  const int64_t passed = x.size(-1) - 2 * half;
  return passed == 0 ? rotated : at::cat({rotated, x.narrow(-1, 2 * half, passed)}, -1);
}

}  // namespace headlens
