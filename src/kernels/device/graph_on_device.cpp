// headlens/kernels: recording on a CUDA device.
#include "kernels/device/graph_on_device.h"

#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "core/check.h"

namespace headlens {
namespace {

/// A recording that can be given up: LibTorch's own end of a failed one leaves the allocator and
/// the random generators in recording.
class Recording final : public at::cuda::CUDAGraph {
 public:
  void abandon() noexcept {
    try {
      capture_end();
      return;
    } catch (const std::exception&) {  // the failure of the work matters more than this one
    }
    cudaGetLastError();
    for (auto& entry : captured_generator_states_) entry.first->capturing_ = false;
    try {
      c10::cuda::CUDACachingAllocator::endAllocateToPool(capture_dev_, mempool_id_);
      capture_ended_ = true;  // so that the destructor gives the memory back
    } catch (const std::exception&) {
    }
  }
};

class CudaGraph final : public DeviceGraph {
 public:
  CudaGraph(at::Device device, const std::function<void()>& work) : device_(device) {
    const c10::cuda::CUDAGuard guard(device);
    const c10::cuda::CUDAStream before = c10::cuda::getCurrentCUDAStream();
    // The default stream cannot be recorded; what it has under way comes first.
    const c10::cuda::CUDAStream side = c10::cuda::getStreamFromPool();
    before.synchronize();
    const c10::cuda::CUDAStreamGuard on_side(side);
    graph_.capture_begin();
    try {
      work();
    } catch (...) {
      graph_.abandon();
      throw;
    }
    graph_.capture_end();
  }

  void replay() override {
    const c10::cuda::CUDAGuard guard(device_);
    graph_.replay();
  }

 private:
  at::Device device_;
  Recording graph_;
};

}  // namespace

std::unique_ptr<DeviceGraph> record_on_device(at::Device device,
                                              const std::function<void()>& work) {
  try {
    return std::make_unique<CudaGraph>(device, work);
  } catch (const c10::Error& error) {
    HEADLENS_FAIL(DeviceError,
                  "[device_graph] work, expected nothing that waits for the device, "
                  "got {}",
                  error.what_without_backtrace());
  }
}

}  // namespace headlens
