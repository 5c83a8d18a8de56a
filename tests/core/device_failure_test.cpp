// headlens/tests: GPUs that work are not taken for ones that failed.
#include "core/device_failure.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "headlens/core/device.h"

namespace headlens {
namespace {

TEST(DeviceFailure, NoneWhereNoGpuIsInUse) {
  EXPECT_EQ(device_failure(), "");
}

TEST(DeviceFailure, CudaThatRefusedAWorkGoesOn) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  const at::Tensor x = at::ones({4}, at::kCUDA);
  EXPECT_ANY_THROW(at::empty({int64_t{1} << 55}, at::TensorOptions(at::kCUDA)));
  EXPECT_EQ(device_failure(), "");
  EXPECT_EQ(x.sum().item<float>(), 4.0f);
}

}  // namespace
}  // namespace headlens
