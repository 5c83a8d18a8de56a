// headlens/kernels: figures of the maps of Mamba-2 heads.
#include "headlens/kernels/ssd_map_stats.h"

#include "headlens/kernels/ssd_scan.h"
#include "kernels/autograd_support.h"
#include "kernels/device/ssd_map_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/map_requests.h"
#include "kernels/ssd_checks.h"

namespace headlens {

MapStats ssd_map_stats(const Tensor& log_decay, const Tensor& dt, const Tensor& B, const Tensor& C,
                       const MapStatsRequest& request) {
  const char* where = "ssd_map_stats";
  check_shape(where, "log_decay", log_decay, {-1, -1, -1});
  const int64_t batch = log_decay.size(0), pos = log_decay.size(1), heads = log_decay.size(2);
  if (dt.defined()) check_shape(where, "dt", dt, log_decay.sizes());
  check_shape(where, "B", B, {batch, pos, -1, -1});
  check_shape(where, "C", C, B.sizes());
  check_groups(where, heads, B.size(2));
  check_map_request(where, request, batch, pos);
  [[maybe_unused]] const auto dtype = compute_dtype(where, {log_decay, dt, B, C});
  if constexpr (kDeviceKernels) {
    if (has_device_kernel(log_decay) && dtype == at::kFloat && log_decay.numel() > 0 &&
        !records_grad({log_decay, dt, B, C})) {
      return ssd_map_stats_on_device({log_decay, dt, B, C}, request);
    }
  }
  const int64_t asked = request.heads.defined() ? request.heads.size(0) : heads;
  return stats_of_rows(request, batch, asked, pos, log_decay.device(), [&](const Tensor& rows) {
    return ssd_map_rows(log_decay, dt, B, C, rows, request.heads);
  });
}

}  // namespace headlens
