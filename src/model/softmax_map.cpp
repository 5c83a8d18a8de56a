// headlens/model: the map of softmax attention.
#include <ATen/ATen.h>

#include "headlens/kernels/attention.h"
#include "headlens/model/head_map.h"
#include "model/head_map_parts.h"

namespace headlens {
namespace {

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

  Tensor values() const override {
    const int64_t shared = heads() / v_.size(2);
    return shared == 1 ? v_ : v_.repeat_interleave(shared, 2);
  }

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

 private:
  Tensor q_, k_, v_;
  AttentionRule rule_;
};

}  // namespace

std::unique_ptr<HeadMap> make_softmax_map(Tensor q, Tensor k, Tensor v, AttentionRule rule) {
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

}  // namespace headlens
