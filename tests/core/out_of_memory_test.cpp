// headlens/tests: which errors mean that memory ran out.
#include "core/out_of_memory.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <new>

#include "headlens/core/error.h"

namespace headlens {
namespace {

TEST(OutOfMemory, IsWhatLibTorchThrowsOnTheHost) {
  try {
    at::empty({int64_t{1} << 55}, at::kDouble);
    FAIL() << "2^58 bytes were there";
  } catch (const std::exception& e) {
    EXPECT_TRUE(is_out_of_memory(e)) << e.what();
  }
}

TEST(OutOfMemory, IsNotAnyOtherError) {
  EXPECT_TRUE(is_out_of_memory(std::bad_alloc()));
  EXPECT_FALSE(is_out_of_memory(Error("[x] out of memory")));
  try {
    at::zeros({2, 3}).matmul(at::zeros({2, 3}));
    FAIL();
  } catch (const std::exception& e) {
    EXPECT_FALSE(is_out_of_memory(e)) << e.what();
  }
}

}  // namespace
}  // namespace headlens
