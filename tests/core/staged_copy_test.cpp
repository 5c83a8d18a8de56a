// headlens/tests: tensors through buffers, whole whatever the buffers' size.
#include "core/staged_copy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "headlens/core/device.h"
#include "headlens/core/torch_file.h"

namespace headlens {
namespace {

const std::filesystem::path kFiles = HEADLENS_TORCH_FILE_DIR;

/// Every tensor of every kind, shape and stride, by pieces of `buffer` bytes.
void expect_all(int64_t buffer, at::Device device) {
  const TorchFile file = TorchFile::open(kFiles / "kinds.bin");
  StagedCopy staged(buffer);
  for (const std::string& name : file.names()) {
    int64_t told = 0, most = 0;
    const Tensor got = staged.load(file, name, device, [&](int64_t bytes) {
      told += bytes;
      most = std::max(most, bytes);
    });
    EXPECT_EQ(got.device(), device);
    EXPECT_TRUE(got.is_contiguous()) << name;
    EXPECT_EQ(got.scalar_type(), file.info(name).dtype) << name;
    EXPECT_TRUE(at::equal(got.cpu(), file.tensor(name))) << name;
    EXPECT_EQ(told, static_cast<int64_t>(file.info(name).end - file.info(name).begin)) << name;
    EXPECT_LE(most, buffer);
  }
}

TEST(StagedCopy, GivesWholeTensorsWhateverTheBuffersSize) {
  for (const int64_t buffer : {1, 7, 16, 1 << 20}) expect_all(buffer, at::kCPU);
}

TEST(StagedCopy, CudaGivesTheSame) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  for (const int64_t buffer : {7, 16, 1 << 20}) expect_all(buffer, at::Device(at::kCUDA, 0));
  const int last = cuda_device_count() - 1;
  expect_all(16, at::Device(at::kCUDA, static_cast<at::DeviceIndex>(last)));
}

}  // namespace
}  // namespace headlens
