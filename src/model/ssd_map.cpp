// headlens/model: the map of a Mamba-2 or DiscreteMamba2 layer.
#include <ATen/ATen.h>

#include "headlens/kernels/ssd_map_stats.h"
#include "headlens/kernels/ssd_scan.h"
#include "headlens/model/head_map.h"
#include "model/head_map_parts.h"

namespace headlens {
namespace {

class SsdMap final : public HeadMap {
 public:
  SsdMap(LayerKind kind, Tensor log_decay, Tensor dt, Tensor B, Tensor C, Tensor x, Tensor state)
      : kind_(kind),
        log_decay_(std::move(log_decay)),
        dt_(std::move(dt)),
        B_(std::move(B)),
        C_(std::move(C)),
        x_(std::move(x)),
        state_(std::move(state)) {}

  LayerKind kind() const override { return kind_; }
  int64_t batch() const override { return x_.size(0); }
  int64_t heads() const override { return x_.size(2); }
  int64_t queries() const override { return x_.size(1); }
  int64_t keys() const override { return x_.size(1); }
  at::Device device() const override { return x_.device(); }
  Tensor values() const override { return x_; }

  // exp(sum_{k<=i} log_decay_k) C_i . (incoming state)
  Tensor carry() const override {
    if (!state_.defined()) return {};
    const auto dtype = at::promote_types(state_.scalar_type(), at::kFloat);
    const int64_t groups = B_.size(2), d_state = B_.size(3), d_head = x_.size(3);
    const Tensor state = state_.to(dtype)
                             .reshape({batch(), groups, heads() / groups * d_head, d_state})
                             .transpose(2, 3);
    const Tensor read =
        at::matmul(C_.to(dtype).transpose(1, 2), state)  // [batch, group, query, ..]
            .transpose(1, 2)
            .reshape({batch(), queries(), heads(), d_head});
    return read * log_decay_.to(dtype).cumsum(1).exp().unsqueeze(-1);
  }

 protected:
  Tensor raw_rows(const Tensor& rows, const std::vector<int64_t>& heads,
                  const Tensor& /*hidden*/) const override {
    return ssd_map_rows(log_decay_, dt_, B_, C_, rows, head_index(heads, device()));
  }

  std::optional<MapStats> streamed(const MapStatsRequest& request) const override {
    if (!device().is_cuda() || !within_limits(request)) return std::nullopt;
    return ssd_map_stats(log_decay_, dt_, B_, C_, request);
  }

  // M does not depend on what it multiplies, so scaled inputs scale its columns.
  Tensor fused(const Tensor& scale, const std::vector<const MapEdit*>& /*hides*/) const override {
    const Tensor x = scale.defined() ? scaled_values(x_, scale.unsqueeze(-1)) : x_;
    return ssd_scan(x, log_decay_, dt_, B_, C_, state_, kChunk).y;
  }

 private:
  static constexpr int64_t kChunk = 64;
  LayerKind kind_;
  Tensor log_decay_, dt_, B_, C_, x_, state_;
};

}  // namespace

std::unique_ptr<HeadMap> make_ssd_map(LayerKind kind, Tensor log_decay, Tensor dt, Tensor B,
                                      Tensor C, Tensor x, Tensor state) {
  const char* map = "make_ssd_map";
  HEADLENS_CHECK(ShapeError, kind == LayerKind::Mamba2 || kind == LayerKind::DiscreteMamba2,
                 "[{}] kind, expected mamba2 or discrete_mamba2, got {}", map,
                 layer_kind_name(kind));
  check_map_input(map, "x", x, {-1, -1, -1, -1});
  const int64_t batch = x.size(0), pos = x.size(1), heads = x.size(2);
  check_map_input(map, "log_decay", log_decay, {batch, pos, heads});
  if (dt.defined()) check_map_input(map, "dt", dt, {batch, pos, heads});
  check_map_input(map, "B", B, {batch, pos, -1, -1});
  check_map_input(map, "C", C, B.sizes());
  HEADLENS_CHECK(ShapeError, B.size(2) > 0 && heads % B.size(2) == 0,
                 "[{}] heads, expected a multiple of {} groups, got {}", map, B.size(2), heads);
  if (state.defined()) {
    check_map_input(map, "state", state, {batch, heads, x.size(3), B.size(3)});
  }
  return std::make_unique<SsdMap>(kind, std::move(log_decay), std::move(dt), std::move(B),
                                  std::move(C), std::move(x), std::move(state));
}

}  // namespace headlens
