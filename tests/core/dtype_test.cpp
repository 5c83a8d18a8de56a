// headlens/tests: dtype names and sizes.
#include "headlens/core/dtype.h"

#include "error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

TEST(ParseDtype, ReadsPlainAndTorchNames) {
  EXPECT_EQ(parse_dtype("float32"), at::kFloat);
  EXPECT_EQ(parse_dtype("bfloat16"), at::kBFloat16);
  EXPECT_EQ(parse_dtype("float16"), at::kHalf);
  EXPECT_EQ(parse_dtype("float64"), at::kDouble);
  EXPECT_EQ(parse_dtype("torch.bfloat16"), at::kBFloat16);
}

TEST(ParseDtype, RefusesOtherNames) {
  for (const char* name : {"", "int64", "float8", "torch.", "Float32", "torch.torch.float32"}) {
    EXPECT_EQ(testing::error_message<ConfigError>([&] { parse_dtype(name); }),
              std::string("[parse_dtype] dtype, expected float32, bfloat16, float16 or float64, "
                          "got '") +
                  name + "'");
  }
}

TEST(DtypeName, IsWhatParseDtypeReads) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    EXPECT_EQ(parse_dtype(dtype_name(dtype)), dtype);
  }
  EXPECT_EQ(dtype_name(at::kLong), "int64");
  EXPECT_EQ(dtype_name(at::kBool), "bool");
}

TEST(ElementSize, CountsBytes) {
  EXPECT_EQ(element_size(at::kDouble), 8);
  EXPECT_EQ(element_size(at::kBFloat16), 2);
  EXPECT_EQ(element_size(at::kBool), 1);
}

}  // namespace
}  // namespace headlens
