// headlens/model: log-probabilities of chosen tokens, without all the logits at once.
#include "headlens/model/token_logprobs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/check.h"
#include "headlens/model/language_model.h"

namespace headlens {
namespace {

void check_picks(const Tensor& picks, const Tensor& resid, int64_t copies, int64_t vocab) {
  const bool fits = picks.defined() && picks.dim() == 2 && picks.size(0) == 3 &&
                    picks.scalar_type() == at::kLong && resid.dim() == 3 &&
                    resid.size(0) % copies == 0;
  HEADLENS_CHECK(ShapeError, fits, "[score] picks, expected int64 [3, pick] and {} copies, got {}",
                 copies, picks.defined() ? shape_string(picks.sizes()) : "none");
  if (picks.size(1) == 0) return;
  const Tensor largest = std::get<0>(picks.max(1)).cpu();
  const int64_t sizes[] = {resid.size(0) / copies, resid.size(1), vocab};
  const char* names[] = {"row of a pick", "slot of a pick", "token id of a choice"};
  const char* owners[] = {"the batch's", "the batch's", "the model's"};
  for (int64_t i = 0; i < 3; ++i) {
    HEADLENS_CHECK(ShapeError, largest[i].item<int64_t>() < sizes[i],
                   "[score] {}, expected less than {} {}, got {}", names[i], owners[i], sizes[i],
                   largest[i].item<int64_t>());
  }
}

/// Picks by place: each place's tokens in a row.
struct PlacedPicks {
  Tensor place;    // [place] row * slots + slot, rising
  Tensor tokens;   // [place, most picks of one], 0 where there are fewer
  Tensor inverse;  // [pick] which place
  Tensor rank;     // [pick] which of its tokens
};
PlacedPicks by_place(const Tensor& picks, int64_t slots) {
  const auto count = static_cast<size_t>(picks.size(1));
  const auto* row = picks.const_data_ptr<int64_t>();
  const auto place_of = [&](size_t pick) { return row[pick] * slots + row[count + pick]; };
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return place_of(a) < place_of(b); });
  std::vector<int64_t> place, inverse(count), rank(count);
  int64_t most = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t pick = order[i];
    const bool same = i > 0 && place_of(pick) == place.back();
    if (!same) place.push_back(place_of(pick));
    inverse[pick] = std::ssize(place) - 1;
    rank[pick] = same ? rank[order[i - 1]] + 1 : 0;
    most = std::max(most, rank[pick] + 1);
  }
  PlacedPicks placed{at::tensor(place, at::kLong), at::zeros({std::ssize(place), most}, at::kLong),
                     at::tensor(inverse, at::kLong), at::tensor(rank, at::kLong)};
  auto* tokens = placed.tokens.mutable_data_ptr<int64_t>();
  for (size_t pick = 0; pick < count; ++pick) {
    tokens[inverse[pick] * most + rank[pick]] = row[2 * count + pick];
  }
  return placed;
}

/// ln p of `tokens` [n, m] at n places, from their residuals [n, d_model]; [n, m] float64
Tensor logprobs_at(const LanguageModel& model, const Tensor& resid, const Tensor& tokens) {
  const Tensor logits = model.unembed(resid);
  // Half precision cannot tell close choices apart; on the CPU float64 costs next to nothing.
  const bool wide = logits.is_cpu() || logits.scalar_type() == at::kDouble;
  const Tensor scores = logits.to(wide ? at::kDouble : at::kFloat);
  const Tensor picked = scores.gather(1, tokens.to(scores.device()));
  return picked.to(at::kDouble) - scores.logsumexp(-1, /*keepdim=*/true);
}

}  // namespace

Tensor token_logprobs(const LanguageModel& model, const Tensor& resid, const Tensor& picks,
                      int64_t copies, int64_t most_logits) {
  const int64_t vocab = model.config().vocab_size, slots = resid.size(1);
  check_picks(picks, resid, copies, vocab);
  if (picks.size(1) == 0) return at::zeros({copies, 0}, at::kDouble);
  const auto [place, tokens, inverse, rank] = by_place(picks.contiguous(), slots);

  const int64_t places = place.numel(), rows_of_copy = resid.size(0) / copies * slots;
  const Tensor copy = at::arange(copies, at::kLong).unsqueeze(1) * rows_of_copy;
  const Tensor at_places = (copy + place).flatten().to(resid.device());  // [copies * place]
  const Tensor all_tokens = tokens.repeat({copies, 1}).to(resid.device());
  const Tensor flat = resid.reshape({-1, resid.size(-1)});
  const int64_t step = std::max<int64_t>(1, most_logits / vocab);
  std::vector<Tensor> parts;
  for (int64_t first = 0; first < copies * places; first += step) {
    const int64_t count = std::min(step, copies * places - first);
    parts.push_back(logprobs_at(model, flat.index_select(0, at_places.narrow(0, first, count)),
                                all_tokens.narrow(0, first, count)));
  }
  const Tensor found = at::cat(parts).cpu().view({copies, places, -1});
  return found.index({at::indexing::Slice(), inverse, rank}).contiguous();
}

}  // namespace headlens
