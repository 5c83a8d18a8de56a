// headlens/tests: device names.
#include "headlens/core/device.h"

#include "error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

using testing::error_message;

TEST(ParseDevice, ReadsTheCpu) {
  EXPECT_TRUE(parse_device("cpu").is_cpu());
}

TEST(ParseDevice, RefusesOtherNames) {
  for (const char* name : {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:0x",
                           "cuda:+1", "cuda: 1", "cuda1", "cuda:99999999999", "cuda:1000"}) {
    EXPECT_EQ(error_message<DeviceError>([&] { parse_device(name); }),
              std::string("[parse_device] device, expected 'cpu', 'cuda' or 'cuda:N', got '") +
                  name + "'");
  }
}

// What is right depends on the machine: with a device it must be found, without one the error must
// say so.
TEST(ParseDevice, FindsTheDeviceOrSaysWhatIsMissing) {
  if (cuda_available()) {
    EXPECT_EQ(parse_device("cuda"), at::Device(at::kCUDA, 0));
    EXPECT_EQ(parse_device("cuda:0"), at::Device(at::kCUDA, 0));
    EXPECT_EQ(default_device(), at::Device(at::kCUDA, 0));
  } else {
    const std::string message = error_message<DeviceError>([] { parse_device("cuda:0"); });
    EXPECT_TRUE(message ==
                    "[parse_device] device 'cuda:0', expected a LibTorch built with CUDA, got one "
                    "for the CPU only" ||
                message ==
                    "[parse_device] device 'cuda:0', expected at least 1 visible CUDA device(s), "
                    "got 0")
        << message;
    EXPECT_TRUE(default_device().is_cpu());
    EXPECT_EQ(cuda_device_count(), 0);
  }
}

TEST(ParseDevice, RefusesADeviceBeyondTheLast) {
  const std::string message = error_message<DeviceError>([] { parse_device("cuda:120"); });
  EXPECT_TRUE(message.starts_with("[parse_device] device 'cuda:120', expected ")) << message;
}

}  // namespace
}  // namespace headlens
