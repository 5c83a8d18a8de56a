// headlens/kernels: running a function over blocks of the batch on all cores.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstdint>

namespace headlens {

/// Calls fn(first, count) for blocks of `block` sequences that cover the batch, several at once
/// where there are threads. Nothing inside is recorded for autograd. `fn` writes to its own part.
template <typename Fn>
void for_batch_blocks(int64_t batch, int64_t block, const Fn& fn) {
  const at::NoGradGuard no_grad;
  const int64_t blocks = (batch + block - 1) / block;
  if (blocks <= 1) {
    if (batch > 0) fn(0, batch);
    return;
  }
  const at::ThreadLocalState caller;
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    const at::ThreadLocalStateGuard as_caller(caller);
    for (int64_t i = begin; i < end; ++i) fn(i * block, std::min(block, batch - i * block));
  });
}

}  // namespace headlens
