// headlens/kernels: rows of a Mamba-1 map by running the recurrence backwards from each row.
#include "kernels/s6_rows.h"

#include <ATen/ATen.h>

#include "kernels/batch_blocks.h"
#include "kernels/segment_sums.h"

namespace headlens {
namespace {

constexpr int64_t kBlockElements = 1 << 17;  // what a block's running factors take: in the cache

// Starts row r of sequence b with its C_i where i is key j.
void start_rows(const Tensor& rows, const Tensor& read, int64_t j, Tensor& factors) {
  const auto index = rows.accessor<int64_t, 2>();
  for (int64_t b = 0; b < rows.size(0); ++b) {
    for (int64_t r = 0; r < rows.size(1); ++r) {
      if (index[b][r] == j) {
        factors.select(0, b).select(1, r).copy_(read.select(0, b).select(0, r).unsqueeze(-1));
      }
    }
  }
}

// out [batch, channel, row, pos]. The running factors are C_i[n] exp(A[n] sum_{k=j+1..i} dt_k),
// [batch, d_state, row, channel], 0 for rows that have not begun; only decays multiply them.
void block_rows(const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& read,
                const Tensor& rows, const Tensor& out) {
  const int64_t batch = dt.size(0), pos = dt.size(1), channels = dt.size(2);
  const int64_t row_count = rows.size(1), d_state = A.size(0);
  Tensor factors = at::zeros({batch, d_state, row_count, channels}, dt.options());
  const Tensor flat = factors.view({batch, d_state, row_count * channels});
  const Tensor by_key = at::zeros({pos, batch, 1, row_count * channels}, dt.options());
  Tensor decay = at::empty({batch, d_state, channels}, dt.options());
  for (int64_t j = rows.max().item<int64_t>(); j >= 0; --j) {
    start_rows(rows, read, j, factors);
    Tensor entry = by_key.select(0, j);
    at::bmm_out(entry, B.narrow(1, j, 1), flat);
    at::mul_out(decay, dt.narrow(1, j, 1), A);
    factors.mul_(decay.exp_().unsqueeze(2));
  }
  const Tensor entries = by_key.view({pos, batch, row_count, channels}).permute({1, 3, 2, 0});
  at::Tensor target = out;
  at::mul_out(target, entries, dt.transpose(1, 2).unsqueeze(2));
}

}  // namespace

bool s6_rows_worthwhile(const Tensor& rows, int64_t channels, int64_t d_state) {
  constexpr int64_t kLeast = 1 << 13;
  return rows.is_cpu() && rows.numel() > 0 && rows.numel() * channels * d_state >= kLeast;
}

Tensor s6_rows(const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
               const Tensor& rows) {
  const int64_t batch = dt.size(0), channels = dt.size(2), row_count = rows.size(1);
  const Tensor read = take_rows(C, rows), rates = A.t().contiguous(), index = rows.contiguous();
  Tensor out = at::empty({batch, channels, row_count, dt.size(1)}, dt.options());
  const int64_t block = kBlockElements / (row_count * channels * A.size(1));
  for_batch_blocks(batch, std::max<int64_t>(1, block), [&](int64_t first, int64_t count) {
    const auto part = [&](const Tensor& t) { return t.narrow(0, first, count); };
    block_rows(part(dt), rates, part(B), part(read), part(index), part(out));
  });
  return out;
}

}  // namespace headlens
