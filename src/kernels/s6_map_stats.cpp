// headlens/kernels: figures of the maps of Mamba-1 (S6) channels.
#include "headlens/kernels/s6_map_stats.h"

#include <ATen/ATen.h>

#include "headlens/kernels/selective_scan.h"
#include "kernels/autograd_support.h"
#include "kernels/device/s6_map_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/map_requests.h"
#include "kernels/segment_sums.h"
#include "kernels/tensor_checks.h"

namespace headlens {
namespace {

// [batch, pos, channel] -> [batch, chosen channel, pos]
Tensor by_channel(const Tensor& x, const Tensor& channels) {
  const Tensor all = x.transpose(1, 2);
  return channels.defined() ? all.index_select(1, channels) : all;
}

Tensor chosen(const Tensor& per_channel, const Tensor& channels) {
  return channels.defined() ? per_channel.index_select(0, channels) : per_channel;
}

// M with the skip on its diagonal.
Tensor with_skip(const Tensor& map, const Tensor& rows, const Tensor& D) {
  const Tensor diagonal =
      at::arange(map.size(3), rows.options()) == rows.unsqueeze(-1);  // [batch, row, pos]
  return map + D.view({1, -1, 1, 1}) * diagonal.unsqueeze(1);
}

}  // namespace

MapStats selective_scan_map_stats(const Tensor& dt, const Tensor& A, const Tensor& B,
                                  const Tensor& C, const MapStatsRequest& request) {
  const char* where = "selective_scan_map_stats";
  check_shape(where, "dt", dt, {-1, -1, -1});
  const int64_t batch = dt.size(0), pos = dt.size(1);
  check_shape(where, "A", A, {dt.size(2), -1});
  check_shape(where, "B", B, {batch, pos, A.size(1)});
  check_shape(where, "C", C, {batch, pos, A.size(1)});
  check_map_request(where, request, batch, pos);
  [[maybe_unused]] const auto dtype = compute_dtype(where, {dt, A, B, C});
  if constexpr (kDeviceKernels) {
    if (has_device_kernel(dt) && dtype == at::kFloat && dt.numel() > 0 &&
        !records_grad({dt, A, B, C})) {
      return s6_map_stats_on_device({dt, A, B, C}, request);
    }
  }
  const int64_t asked = request.heads.defined() ? request.heads.size(0) : dt.size(2);
  return stats_of_rows(request, batch, asked, pos, dt.device(), [&](const Tensor& rows) {
    return selective_scan_map_rows(dt, A, B, C, rows, request.heads);
  });
}

Tensor selective_scan_block_rows(const Tensor& map_rows, const Tensor& rows, const Tensor& channels,
                                 const S6BlockParts& parts) {
  const char* where = "selective_scan_block_rows";
  check_shape(where, "map_rows", map_rows, {-1, -1, -1, -1});
  const int64_t batch = map_rows.size(0), pos = map_rows.size(3);
  check_shape(where, "conv", parts.conv, {batch, pos, -1});
  const int64_t all = parts.conv.size(2);
  check_shape(where, "weight", parts.weight, {all, -1});
  check_shape(where, "gate", parts.gate, {batch, pos, all});
  if (parts.D.defined()) check_shape(where, "D", parts.D, {all});
  check_index(where, "rows", rows, {batch, map_rows.size(2)});
  if (channels.defined()) check_index(where, "channels", channels, {map_rows.size(1)});
  const int64_t count = channels.defined() ? channels.size(0) : all;
  check_shape(where, "map_rows", map_rows, {batch, count, -1, pos});

  const auto dtype =
      compute_dtype(where, {map_rows, parts.conv, parts.weight, parts.gate, parts.D});
  Tensor map = map_rows.to(dtype);
  if (parts.D.defined()) map = with_skip(map, rows, chosen(parts.D, channels).to(dtype));
  const Tensor read = by_channel(parts.conv, channels).to(dtype).sigmoid().unsqueeze(2);
  const Tensor weight = chosen(parts.weight, channels).to(dtype);  // [channel, d_conv]
  const int64_t width = weight.size(1);
  // Key t reaches positions t .. t + d_conv - 1, by the weight for that distance.
  const Tensor ahead = at::constant_pad_nd(map * read, {0, width - 1}, 0);
  Tensor folded = at::zeros_like(map);
  for (int64_t s = 0; s < width; ++s) {
    folded = folded + ahead.narrow(3, s, pos) * weight.select(1, width - 1 - s).view({1, -1, 1, 1});
  }
  const Tensor gate = at::silu(take_rows(parts.gate, rows).to(dtype));  // [batch, row, channel]
  return folded * by_channel(gate, channels).unsqueeze(-1);
}

}  // namespace headlens
