// headlens/kernels: work on a device that is recorded once and replayed.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace headlens {

/// What a function launched on a CUDA device, ready to be launched again in one go. It reads and
/// writes the tensors it was recorded with; memory it took while recording stays its own.
class DeviceGraph {
 public:
  /// Whether this build can record on that device.
  static bool can_record(at::Device device);

  /// Runs `work` in recording: nothing is executed. `work` must not wait for the device, and must
  /// have run before (libraries set themselves up in their first call). DeviceError if it does what
  /// cannot be recorded.
  static std::unique_ptr<DeviceGraph> record(at::Device device, const std::function<void()>& work);

  virtual ~DeviceGraph() = default;
  /// Launches it on the device's current stream.
  virtual void replay() = 0;
};

}  // namespace headlens
