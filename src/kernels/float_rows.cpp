// headlens/kernels: norms and rotations of float32 rows on the CPU, one pass each.
#include "kernels/float_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

namespace headlens {
namespace {

/// Loops over so many at a time become vector instructions, sums in so many parts too.
constexpr int64_t kLanes = 16;
/// Floats that are worth a thread.
constexpr int64_t kGrain = 1 << 15;

float sum_of_squares(const float* x, int64_t width) {
  float parts[kLanes] = {}, sum = 0;
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) parts[l] += x[i + l] * x[i + l];
  }
  for (; i < width; ++i) sum += x[i] * x[i];
  for (const float part : parts) sum += part;
  return sum;
}

void add(const float* x, const float* y, float* __restrict sum, int64_t width) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) sum[i + l] = x[i + l] + y[i + l];
  }
  for (; i < width; ++i) sum[i] = x[i] + y[i];
}

/// x * factor * weight
void scale(const float* x, float factor, const float* weight, float* __restrict out,
           int64_t width) {
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) out[i + l] = x[i + l] * factor * weight[i + l];
  }
  for (; i < width; ++i) out[i] = x[i] * factor * weight[i];
}

/// One head of `half` pairs (first, second).
void rotate(const float* first, const float* second, const float* cos, const float* sin,
            float* __restrict out_first, float* __restrict out_second, int64_t half) {
  constexpr int64_t kPairs = kLanes / 2;
  int64_t i = 0;
  for (; i + kPairs <= half; i += kPairs) {
    for (int64_t l = i; l < i + kPairs; ++l) {
      out_first[l] = first[l] * cos[l] - second[l] * sin[l];
    }
    for (int64_t l = i; l < i + kPairs; ++l) {
      out_second[l] = second[l] * cos[l] + first[l] * sin[l];
    }
  }
  for (; i < half; ++i) {
    out_first[i] = first[i] * cos[i] - second[i] * sin[i];
    out_second[i] = second[i] * cos[i] + first[i] * sin[i];
  }
}

}  // namespace

bool is_float_rows(const Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous();
}

AddedNorm rms_norm_of_rows(const Tensor& x, const Tensor& addend, const Tensor& weight, double eps,
                           bool plus_one) {
  const int64_t width = x.size(-1), rows = width == 0 ? 0 : x.numel() / width;
  AddedNorm out{addend.defined() ? at::empty_like(x) : x, at::empty_like(x)};
  const Tensor factors = plus_one ? 1 + weight : weight;
  const auto* in = x.const_data_ptr<float>();
  const auto* more = addend.defined() ? addend.const_data_ptr<float>() : nullptr;
  const auto* factor = factors.const_data_ptr<float>();
  auto* sum = addend.defined() ? out.sum.mutable_data_ptr<float>() : nullptr;
  auto* normed = out.normed.mutable_data_ptr<float>();
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t r = begin * width; r < end * width; r += width) {
                       if (more != nullptr) add(in + r, more + r, sum + r, width);
                       const float* row = more != nullptr ? sum + r : in + r;
                       const float mean = sum_of_squares(row, width) / static_cast<float>(width);
                       const float shrink = 1 / std::sqrt(mean + static_cast<float>(eps));
                       scale(row, shrink, factor, normed + r, width);
                     }
                   });
  return out;
}

Tensor rotate_rows(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const int64_t batch = x.size(0), pos = x.size(1), heads = x.size(2), d_head = x.size(3);
  const int64_t half = cos.size(-1), table = cos.size(0) == 1 ? 0 : pos * half;
  Tensor out = at::empty(x.sizes(), x.options());
  const auto* in = x.const_data_ptr<float>();
  const auto* c = cos.const_data_ptr<float>();
  const auto* s = sin.const_data_ptr<float>();
  auto* to = out.mutable_data_ptr<float>();
  const auto grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, heads * d_head));
  at::parallel_for(0, batch * pos, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t b = t / pos, p = t % pos, at = b * table + p * half;
      for (int64_t h = 0; h < heads; ++h) {
        const float* head = in + b * x.stride(0) + p * x.stride(1) + h * x.stride(2);
        float* turned = to + (t * heads + h) * d_head;
        rotate(head, head + half, c + at, s + at, turned, turned + half, half);
        std::copy(head + 2 * half, head + d_head, turned + 2 * half);
      }
    }
  });
  return out;
}

}  // namespace headlens
