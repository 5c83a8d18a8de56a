// headlens/model: from logits to the next token of each row.
#include "model/sampling.h"

#include <ATen/ATen.h>

#include "core/check.h"
#include "model/promote.h"

namespace headlens {
namespace {

/// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every bit depends on every bit.
uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

/// ids [row] where `draws` [row] fall in `weights` [row, vocab], which are largest 1.
Tensor drawn(const Tensor& weights, double top_p, const Tensor& draws) {
  const auto [sorted, order] =
      (weights / weights.sum(-1, /*keepdim=*/true)).sort(/*stable=*/true, -1, /*descending=*/true);
  const Tensor share = sorted.to(at::kDouble);
  const Tensor before = share.cumsum(-1) - share;
  const Tensor kept = before.lt(top_p).logical_and(share.gt(0));
  const Tensor until = (share * kept).cumsum(-1);
  const Tensor target = draws.to(share.device()).unsqueeze(1) * until.slice(-1, -1);
  // The first whose upper end lies beyond; rounding must not lead past the last one kept.
  const Tensor place = until.le(target).sum(-1, /*keepdim=*/true);
  return order.gather(1, at::minimum(place, kept.sum(-1, /*keepdim=*/true) - 1)).squeeze(1);
}

}  // namespace

double sampling_draw(uint64_t seed, int64_t prompt, int64_t step) {
  constexpr uint64_t kGamma = 0x9E3779B97F4A7C15ULL;
  uint64_t x = mixed(seed + kGamma);
  x = mixed(x + kGamma * (static_cast<uint64_t>(prompt) + 1));
  x = mixed(x + kGamma * (static_cast<uint64_t>(step) + 1));
  return static_cast<double>(x >> 11) * 0x1p-53;
}

ChosenTokens choose_tokens(const Tensor& logits, double temperature, double top_p,
                           const Tensor& draws) {
  const Tensor wide =
      logits.to(logits.is_cpu() ? at::kDouble : at_least_float32(logits.scalar_type()));
  const Tensor all = wide.log_softmax(-1);
  HEADLENS_CHECK(Error, !all.amax(-1).isnan().any().item<bool>(),
                 "[generate] logits, expected finite numbers, got {}", "NaN or infinity");
  Tensor ids = wide.argmax(-1);
  if (temperature > 0) {
    // Less the largest, so that no temperature makes it infinite.
    const Tensor below = all - all.amax(-1, /*keepdim=*/true);
    ids = drawn((below / temperature).exp(), top_p, draws);
  }
  const Tensor chosen = all.gather(1, ids.unsqueeze(1)).squeeze(1);
  return {ids.to(at::kCPU), chosen.to(at::kCPU, at::kDouble)};
}

}  // namespace headlens
