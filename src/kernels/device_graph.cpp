// headlens/kernels: work on a device that is recorded once and replayed.
#include "headlens/kernels/device_graph.h"

#include "core/check.h"
#include "kernels/device/graph_on_device.h"
#include "kernels/device_kernels.h"

namespace headlens {

bool DeviceGraph::can_record(at::Device device) {
  return kDeviceKernels && device.is_cuda();
}

std::unique_ptr<DeviceGraph> DeviceGraph::record(at::Device device,
                                                 const std::function<void()>& work) {
  HEADLENS_CHECK(
      DeviceError, can_record(device),
      "[device_graph] device, expected a CUDA device in a build with device code, got {}",
      device.str());
  if constexpr (kDeviceKernels) return record_on_device(device, work);
  return nullptr;
}

}  // namespace headlens
