// headlens/model: rotary position embedding.
#include "headlens/model/rotary.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/check.h"
#include "headlens/kernels/rotary.h"
#include "model/promote.h"

namespace headlens {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

/// theta^(-2 i / rotary_dim)
std::vector<double> plain_frequencies(double theta, int64_t rotary_dim) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < rotary_dim; i += 2) {
    frequencies.push_back(
        std::pow(theta, -static_cast<double>(i) / static_cast<double>(rotary_dim)));
  }
  return frequencies;
}

/// Llama-3.1's rule: long wavelengths are stretched by `factor`, short ones kept, those between
/// blended.
double stretch(double frequency, const Llama3RopeScaling& scaling) {
  const double turns = scaling.original_max_position * frequency / kTwoPi;
  if (turns < scaling.low_freq_factor) return frequency / scaling.factor;
  if (turns > scaling.high_freq_factor) return frequency;
  const double keep =
      (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - keep) * frequency / scaling.factor + keep * frequency;
}

/// YaRN's d(beta): the dimension that turns `beta` times within the original length.
double dimension_of_turns(double beta, const RopeSpec& spec, const YarnRopeScaling& scaling) {
  return static_cast<double>(spec.rotary_dim) *
         std::log(scaling.original_max_position / (beta * kTwoPi)) / (2 * std::log(spec.theta));
}

/// The frequencies of a text of `length` tokens, one function a scaling.
struct Frequencies {
  const RopeSpec& spec;
  int64_t length;

  std::vector<double> plain() const { return plain_frequencies(spec.theta, spec.rotary_dim); }

  std::vector<double> operator()(const std::monostate&) const { return plain(); }

  std::vector<double> operator()(const LinearRopeScaling& scaling) const {
    std::vector<double> all = plain();
    for (double& frequency : all) frequency /= scaling.factor;
    return all;
  }

  std::vector<double> operator()(const DynamicRopeScaling& scaling) const {
    const double reached = std::max(static_cast<double>(length), scaling.max_position);
    const double grown = scaling.factor * reached / scaling.max_position - (scaling.factor - 1);
    const double dim = static_cast<double>(spec.rotary_dim);
    return plain_frequencies(spec.theta * std::pow(grown, dim / (dim - 2)), spec.rotary_dim);
  }

  std::vector<double> operator()(const Llama3RopeScaling& scaling) const {
    std::vector<double> all = plain();
    for (double& frequency : all) frequency = stretch(frequency, scaling);
    return all;
  }

  std::vector<double> operator()(const YarnRopeScaling& scaling) const {
    double low = dimension_of_turns(scaling.beta_fast, spec, scaling);
    double high = dimension_of_turns(scaling.beta_slow, spec, scaling);
    if (scaling.truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0);
    high = std::min(high, static_cast<double>(spec.rotary_dim - 1));
    if (low == high) high += 0.001;  // as in YaRN's code: no division by zero
    std::vector<double> all = plain();
    for (size_t i = 0; i < all.size(); ++i) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      all[i] = all[i] / scaling.factor * ramp + all[i] * (1 - ramp);
    }
    return all;
  }

  std::vector<double> operator()(const LongRopeScaling& scaling) const {
    const bool is_long = static_cast<double>(length) > scaling.original_max_position;
    const std::vector<double>& factors = is_long ? scaling.long_factor : scaling.short_factor;
    std::vector<double> all = plain();
    for (size_t i = 0; i < all.size(); ++i) all[i] /= factors.at(i);
    return all;
  }
};

bool depends_on_length(const RopeSpec& spec) {
  return std::holds_alternative<DynamicRopeScaling>(spec.scaling) ||
         std::holds_alternative<LongRopeScaling>(spec.scaling);
}

}  // namespace

std::vector<double> rotary_frequencies(const RopeSpec& spec, int64_t length) {
  return std::visit(Frequencies{spec, length}, spec.scaling);
}

double rotary_attention_factor(const RopeSpec& spec) {
  if (const auto* yarn = std::get_if<YarnRopeScaling>(&spec.scaling)) {
    return yarn->attention_factor;
  }
  const auto* longrope = std::get_if<LongRopeScaling>(&spec.scaling);
  return longrope != nullptr ? longrope->attention_factor : 1;
}

Rotary::Rotary(const RopeSpec& spec, at::Device device) : spec_(spec) {
  frequencies_ = at::tensor(rotary_frequencies(spec), at::kDouble).to(device);
}

/// [rotary_dim / 2], or [batch, 1, rotary_dim / 2] where each row's length decides.
Tensor Rotary::frequencies(const Prompt& prompt, int64_t count) const {
  if (!depends_on_length(spec_)) return frequencies_;
  const Tensor first = prompt.first.defined() ? prompt.first.to(at::kCPU)
                                              : at::zeros({1}, at::TensorOptions(at::kLong));
  std::vector<Tensor> rows;
  for (int64_t row = 0; row < first.size(0); ++row) {
    const int64_t before = std::max<int64_t>(0, prompt.start - first[row].item<int64_t>());
    const int64_t length = prompt.start + count - first[row].item<int64_t>();
    const std::vector<double> now = rotary_frequencies(spec_, length);
    HEADLENS_CHECK(ShapeError, before == 0 || now == rotary_frequencies(spec_, before),
                   "[rotary] a text of {} tokens, expected to be run from its start (its length "
                   "changes the rotary frequencies), got a state of {} tokens",
                   length, before);
    rows.push_back(at::tensor(now, at::kDouble));
  }
  return at::stack(rows).unsqueeze(1).to(frequencies_.device());
}

RotaryTable Rotary::table(const Prompt& prompt, int64_t count, at::ScalarType dtype) const {
  if (!prompt.tables) return make_table(prompt, count, dtype);
  std::vector<RotaryTables::Entry>& made = prompt.tables->entries;
  const at::Device device = frequencies_.device();
  for (const RotaryTables::Entry& e : made) {
    if (e.count == count && e.dtype == dtype && e.device == device && e.spec == spec_)
      return e.table;
  }
  made.push_back({spec_, device, dtype, count, make_table(prompt, count, dtype)});
  return made.back().table;
}

RotaryTable Rotary::make_table(const Prompt& prompt, int64_t count, at::ScalarType dtype) const {
  const Tensor places = prompt.places(count, frequencies_.device()).to(at::kDouble);
  const Tensor angles = (places.unsqueeze(-1) * frequencies(prompt, count)).unsqueeze(2);
  const at::ScalarType precise = at_least_float32(dtype);
  const double factor = rotary_attention_factor(spec_);
  return {(angles.cos() * factor).to(precise), (angles.sin() * factor).to(precise)};
}

Tensor rotate(const Tensor& x, const RotaryTable& table) {
  return rotate_heads(x, table.cos, table.sin);
}

}  // namespace headlens
