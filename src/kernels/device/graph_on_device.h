// headlens/kernels: recording on a CUDA device.
#pragma once

#include "headlens/kernels/device_graph.h"

namespace headlens {

std::unique_ptr<DeviceGraph> record_on_device(at::Device device, const std::function<void()>& work);

}  // namespace headlens
