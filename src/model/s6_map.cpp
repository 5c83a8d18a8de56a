// headlens/model: the map of a Mamba-1 (S6) layer, one head a channel.
#include <ATen/ATen.h>

#include "headlens/kernels/s6_map_stats.h"
#include "headlens/kernels/selective_scan.h"
#include "headlens/model/head_map.h"
#include "model/head_map_parts.h"

namespace headlens {
namespace {

class S6Map final : public HeadMap {
 public:
  S6Map(Tensor dt, Tensor A, Tensor B, Tensor C, Tensor x, Tensor state)
      : dt_(std::move(dt)),
        A_(std::move(A)),
        B_(std::move(B)),
        C_(std::move(C)),
        x_(std::move(x)),
        state_(std::move(state)) {}

  LayerKind kind() const override { return LayerKind::Mamba1; }
  int64_t batch() const override { return x_.size(0); }
  int64_t heads() const override { return x_.size(2); }
  int64_t queries() const override { return x_.size(1); }
  int64_t keys() const override { return x_.size(1); }
  at::Device device() const override { return x_.device(); }
  Tensor values() const override { return x_.unsqueeze(-1); }

  // sum_n C_i[n] exp(A[n] sum_{k<=i} dt_k) (incoming state)[n], one state index at a time
  Tensor carry() const override {
    if (!state_.defined()) return {};
    const auto dtype = at::promote_types(state_.scalar_type(), at::kFloat);
    const Tensor elapsed = dt_.to(dtype).cumsum(1);  // [batch, query, channel]
    const Tensor rates = A_.to(dtype), read = C_.to(dtype), state = state_.to(dtype);
    Tensor y = at::zeros_like(elapsed);
    for (int64_t n = 0; n < rates.size(1); ++n) {
      const Tensor left = (elapsed * rates.select(1, n)).exp() * state.select(2, n).unsqueeze(1);
      y = at::addcmul(y, left, read.select(2, n).unsqueeze(-1));
    }
    return y.unsqueeze(-1);
  }

 protected:
  Tensor raw_rows(const Tensor& rows, const std::vector<int64_t>& heads,
                  const Tensor& /*hidden*/) const override {
    return selective_scan_map_rows(dt_, A_, B_, C_, rows, head_index(heads, device()));
  }

  std::optional<MapStats> streamed(const MapStatsRequest& request) const override {
    if (!device().is_cuda() || !within_limits(request)) return std::nullopt;
    return selective_scan_map_stats(dt_, A_, B_, C_, request);
  }

  // M does not depend on what it multiplies, so scaled inputs scale its columns.
  Tensor fused(const Tensor& scale, const std::vector<const MapEdit*>& /*hides*/) const override {
    const Tensor x = scale.defined() ? scaled_values(x_, scale) : x_;
    return selective_scan(x, dt_, A_, B_, C_, state_).y.unsqueeze(-1);
  }

 private:
  Tensor dt_, A_, B_, C_, x_, state_;
};

}  // namespace

std::unique_ptr<HeadMap> make_s6_map(Tensor dt, Tensor A, Tensor B, Tensor C, Tensor x,
                                     Tensor state) {
  const char* map = "make_s6_map";
  check_map_input(map, "x", x, {-1, -1, -1});
  const int64_t batch = x.size(0), pos = x.size(1), channels = x.size(2);
  check_map_input(map, "dt", dt, {batch, pos, channels});
  check_map_input(map, "A", A, {channels, -1});
  check_map_input(map, "B", B, {batch, pos, A.size(1)});
  check_map_input(map, "C", C, {batch, pos, A.size(1)});
  if (state.defined()) check_map_input(map, "state", state, {batch, channels, A.size(1)});
  return std::make_unique<S6Map>(std::move(dt), std::move(A), std::move(B), std::move(C),
                                 std::move(x), std::move(state));
}

}  // namespace headlens
