// headlens/model: the map of softmax attention.
#include <ATen/ATen.h>

#include <algorithm>

#include "headlens/kernels/attention.h"
#include "headlens/kernels/attention_stats.h"
#include "headlens/kernels/attention_with_stats.h"
#include "headlens/model/head_map.h"
#include "model/head_map_parts.h"
#include "model/softmax_map.h"

namespace headlens {
namespace {

using Edits = std::vector<const MapEdit*>;

/// Dimensions added to queries and keys, so that what fused kernels take stays a multiple of it.
constexpr int64_t kHideDims = 8;

/// bool [head] where the edit applies.
Tensor heads_of(const MapEdit& edit, int64_t heads, at::Device device) {
  if (edit.heads.empty()) return at::ones({heads}, at::TensorOptions(at::kBool).device(device));
  Tensor chosen = at::zeros({heads}, at::kBool);
  for (const int64_t head : edit.heads) chosen[head] = true;
  return chosen.to(device);
}

class SoftmaxMap final : public HeadMap {
 public:
  SoftmaxMap(Tensor q, Tensor k, Tensor v, AttentionRule rule)
      : q_(std::move(q)), k_(std::move(k)), v_(std::move(v)), rule_(std::move(rule)) {}

  LayerKind kind() const override { return LayerKind::Attention; }
  int64_t batch() const override { return q_.size(0); }
  int64_t heads() const override { return q_.size(2); }
  int64_t queries() const override { return q_.size(1); }
  int64_t keys() const override { return k_.size(1); }
  at::Device device() const override { return q_.device(); }
  Tensor sees(const Tensor& rows) const override {
    return attention_sees(rule_, rows, keys(), first_query());
  }

  Tensor values() const override { return by_query_head(v_); }

  /// From now on z is made along with the first figures, where one pass gives both.
  void want_z() { wants_z_ = true; }
  Tensor unedited_z() const { return z_.defined() ? z_ : attention(q_, k_, v_, rule_); }

 protected:
  Tensor raw_rows(const Tensor& rows, const std::vector<int64_t>& heads,
                  const Tensor& hidden) const override {
    Tensor scores = attention_score_rows(q_, k_, rule_, rows, head_index(heads, device()));
    if (!hidden.defined() && !rule_.first.defined()) return scores.softmax(-1);
    // A row that sees nothing (hidden whole, or padding) keeps finite scores, so that neither it
    // nor its gradient is NaN, and becomes 0 at the end.
    Tensor seen = sees(rows);
    if (hidden.defined()) {
      seen = seen & hidden.logical_not();
      scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
    }
    const Tensor none_left = seen.any(-1, /*keepdim=*/true).logical_not();
    return scores.masked_fill(none_left, 0).softmax(-1).masked_fill(none_left, 0);
  }

  Tensor fused(const Tensor& scale, const Edits& hides) const override {
    Tensor k = k_, v = v_;
    if (scale.defined()) {
      if (scale.size(2) > 1) k = by_query_head(k), v = by_query_head(v);
      v = scaled_values(v, scale.unsqueeze(-1));
    }
    if (hides.empty()) return attention(q_, k, v, rule_).to(v.scalar_type());
    return attend_hiding(k, v, hides);
  }

  std::optional<MapStats> streamed(const MapStatsRequest& request) const override {
    if (!device().is_cuda() || !within_limits(request)) return std::nullopt;
    if (!wants_z_ || z_.defined() || !attention_is_one_pass(q_, k_, v_, rule_, request)) {
      return attention_stats(q_, k_, rule_, request);
    }
    AttentionWithStats both = attention_with_stats(q_, k_, v_, rule_, request);
    z_ = both.z;
    return both.stats;
  }

  Tensor first_seen() const override {
    Tensor first;
    const auto options = at::TensorOptions(at::kLong).device(device());
    if (rule_.window > 0) {
      const Tensor own = at::arange(first_query(), keys(), options);
      first = (own - (rule_.window - 1)).clamp_min(0).unsqueeze(0);
    }
    if (!rule_.first.defined()) return first;
    const Tensor text = rule_.first.to(device()).unsqueeze(1).expand({-1, queries()});
    return first.defined() ? at::maximum(first, text) : text;
  }

 private:
  /// [batch, key, kv_head, d_head] -> [batch, key, head, d_head]
  Tensor by_query_head(const Tensor& x) const {
    const int64_t shared = heads() / x.size(2);
    return shared == 1 ? x : x.repeat_interleave(shared, 2);
  }

  /// Keys hidden by one more dimension an edit: 1 in the queries that it names, far below zero in
  /// the keys, so that the fused kernel's own scores hide them and nothing of size q x k is made.
  Tensor attend_hiding(const Tensor& k, const Tensor& v, const Edits& hides) const {
    const bool narrow = q_.scalar_type() == at::kHalf;
    const double far = narrow ? 6e4 : 1e30;
    if (rule_.softcap > 0 || (narrow && far * rule_.scale < 1000)) return {};
    Tensor q_more = at::zeros({batch(), queries(), heads(), kHideDims}, q_.options());
    Tensor k_more = at::zeros({batch(), keys(), k.size(2), kHideDims}, k.options());
    for (size_t i = 0; i < hides.size(); ++i) {
      const auto dim = static_cast<int64_t>(i);
      q_more.select(-1, dim).copy_(named_rows(*hides[i]));
      Tensor hidden = k_more.select(-1, dim);
      hidden.masked_fill_(named_keys(*hides[i]).unsqueeze(-1), -far);
    }
    const Tensor z = attention(at::cat({q_, q_more}, -1), at::cat({k, k_more}, -1),
                               at::constant_pad_nd(v, {0, kHideDims}), rule_);
    const Tensor none_left = rows_left_with_nothing(hides).unsqueeze(-1);
    return z.narrow(-1, 0, v.size(3)).masked_fill(none_left, 0).to(v.scalar_type());
  }

  /// bool [batch or 1, query, head] where the edit applies.
  Tensor named_rows(const MapEdit& edit) const {
    const Tensor heads = heads_of(edit, this->heads(), device());
    const auto options = at::TensorOptions(at::kBool).device(device());
    const Tensor rows = edit.rows.defined() ? edit.rows : at::ones({1, queries()}, options);
    return rows.unsqueeze(-1) & heads;
  }
  /// bool [batch or 1, key]
  Tensor named_keys(const MapEdit& edit) const {
    const auto options = at::TensorOptions(at::kBool).device(device());
    return edit.keys.defined() ? edit.keys : at::ones({1, keys()}, options);
  }

  /// bool [batch or 1, query, head]: rows of which every key they see is hidden by some edit.
  Tensor rows_left_with_nothing(const Edits& hides) const {
    const Tensor own =
        at::arange(first_query(), keys(), at::TensorOptions(at::kLong).device(device()));
    const Tensor from = first_seen().defined() ? first_seen() : at::zeros_like(own).unsqueeze(0);
    Tensor nothing = at::zeros({1, queries(), heads()}, own.options().dtype(at::kBool));
    for (unsigned subset = 1; subset < 1u << hides.size(); ++subset) {
      Tensor hidden = at::zeros({1, keys()}, nothing.options());
      Tensor under = at::ones({1, queries(), heads()}, nothing.options());
      for (size_t i = 0; i < hides.size(); ++i) {
        const bool inside = (subset >> i & 1) != 0;
        const Tensor rows = named_rows(*hides[i]);
        under = under & (inside ? rows : rows.logical_not());
        if (inside) hidden = hidden | named_keys(*hides[i]);
      }
      const int64_t copies = std::max(hidden.size(0), from.size(0));
      const Tensor left =
          at::constant_pad_nd(hidden.logical_not().cumsum(1), {1, 0}).expand({copies, -1});
      const Tensor after = left.gather(1, (own + 1).unsqueeze(0).expand({copies, -1}));
      const Tensor before = left.gather(1, from.clamp_max(keys()).expand({copies, -1}));
      nothing = nothing | (under & (after <= before).unsqueeze(-1));
    }
    return nothing;
  }

  Tensor q_, k_, v_;
  AttentionRule rule_;
  bool wants_z_ = false;
  mutable Tensor z_;  // of the unedited map, where figures brought it
};

std::unique_ptr<SoftmaxMap> checked_map(Tensor q, Tensor k, Tensor v, AttentionRule rule) {
  const char* map = "make_softmax_map";
  check_map_input(map, "q", q, {-1, -1, -1, -1});
  check_map_input(map, "k", k, {q.size(0), -1, -1, q.size(3)});
  check_map_input(map, "v", v, {k.size(0), k.size(1), k.size(2), -1});
  HEADLENS_CHECK(ShapeError, k.size(2) > 0 && q.size(2) % k.size(2) == 0,
                 "[{}] heads of q, expected a multiple of {}, got {}", map, k.size(2), q.size(2));
  HEADLENS_CHECK(ShapeError, q.size(1) <= k.size(1),
                 "[{}] queries, expected at most the {} keys, got {}", map, k.size(1), q.size(1));
  return std::make_unique<SoftmaxMap>(std::move(q), std::move(k), std::move(v), std::move(rule));
}

}  // namespace

std::unique_ptr<HeadMap> make_softmax_map(Tensor q, Tensor k, Tensor v, AttentionRule rule) {
  return checked_map(std::move(q), std::move(k), std::move(v), std::move(rule));
}

SoftmaxForward make_softmax_forward(Tensor q, Tensor k, Tensor v, AttentionRule rule, bool alone) {
  auto map = checked_map(std::move(q), std::move(k), std::move(v), std::move(rule));
  if (!alone) map->want_z();
  const SoftmaxMap* made = map.get();
  return {std::move(map), [made] { return made->unedited_z(); }};
}

}  // namespace headlens
