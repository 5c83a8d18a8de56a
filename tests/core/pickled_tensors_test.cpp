// headlens/tests: pickles that are no state dict, or pretend to be one.
#include "core/pickled_tensors.h"

#include <gtest/gtest.h>

#include "error_message.h"
#include "headlens/core/error.h"
#include "torch_archive.h"

namespace headlens {
namespace {

using testing::dict_op;
using testing::int_op;
using testing::number_bytes;
using testing::storage_op;
using testing::tensor_op;
using testing::text_op;
using testing::tuple_op;

std::string pickle(const std::string& body) {
  return "\x80\x02" + body + ".";
}
std::string pickle_error(const std::string& bytes) {
  return testing::error_message<CheckpointError>([&] { read_pickled_tensors(bytes, "p"); });
}
std::string error(const std::string& body) {
  return pickle_error(pickle(body));
}
std::string value_error(const std::string& value) {
  return error(dict_op({{"w", value}}));
}

TEST(PickledTensors, ReadsTheNumbersOfATensor) {
  const auto tensors = read_pickled_tensors(
      pickle(dict_op({{"w", tensor_op(-3, {2, 3}, {1, 2}, storage_op(9, "HalfStorage", "7"))}})),
      "p");
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].name, "w");
  EXPECT_EQ(tensors[0].dtype, at::kHalf);
  EXPECT_EQ(tensors[0].storage, "7");
  EXPECT_EQ(tensors[0].storage_elements, 9);
  EXPECT_EQ(tensors[0].offset, -3);
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors[0].strides, (std::vector<int64_t>{1, 2}));
}

TEST(PickledTensors, NeverCallsWhatAFileNames) {
  const std::string arguments = "(" + text_op("echo") + "tR";
  EXPECT_EQ(value_error("cos\nsystem\n" + arguments),
            "[p] key 'w', expected a dense tensor, got a call of os.system, which is not made");
  EXPECT_EQ(error("cos\nsystem\n" + arguments),
            "[p] pickle, expected a dict of tensors, got a call of os.system");
  EXPECT_EQ(value_error("cbuiltins\neval\n"),
            "[p] key 'w', expected a tensor, got the name builtins.eval");
  EXPECT_EQ(value_error("ctorch\nFloatStorage\n" + arguments),
            "[p] key 'w', expected a dense tensor, got a call of torch.FloatStorage, which is not "
            "made");
  EXPECT_EQ(
      value_error("ctorch._utils\n_rebuild_parameter\n(cos\nsystem\n" + arguments + "\x88}tR"),
      "[p] key 'w', expected a parameter made of a dense tensor, got a call of os.system");
  EXPECT_EQ(value_error(text_op("os") + text_op("system") + "\x93" + arguments),
            "[p] key 'w', expected a dense tensor, got a call of os.system, which is not made");
  // What a call returns cannot be called, and has no attributes to set.
  EXPECT_EQ(error("cos\nsystem\n" + arguments + ")R"),
            "[p] pickle at byte 27, expected a name and its arguments, got a call of os.system");
  EXPECT_EQ(error("cos\nsystem\n" + arguments + "}b"),
            "[p] pickle at byte 27, expected attributes of a dict, got a call of os.system");
}

TEST(PickledTensors, KnowsNoOtherOpcodes) {
  for (const char code :
       std::string("0125678iopPdlgFILSTUV\x81\x82\x83\x84\x8b\x8d\x8e\x8f\x90\x91\x92"
                   "\x96\x97\x98\xff ~")) {
    EXPECT_EQ(
        error(std::string(1, code)),
        "[p] pickle at byte 2, expected only opcodes of a state dict, got 0x" + [&] {
          char hex[3];
          std::snprintf(hex, sizeof hex, "%02x", static_cast<unsigned char>(code));
          return std::string(hex);
        }());
  }
  EXPECT_EQ(pickle_error("\x80\x06."), "[p] pickle at byte 2, expected a protocol up to 5, got 6");
}

TEST(PickledTensors, RefusesAStackThatDoesNotFit) {
  for (const char* body : {"R", "q\x01", "\x85", "N\x86", "a", "]a", "s", "}Ns", "Q", "b", "(R",
                           "N(\x85", "\x93", "}(b"}) {
    EXPECT_NE(error(body).find("expected a value on the stack, got none"), std::string::npos)
        << body;
  }
  for (const char* body : {"t", "e", "u", "Nt"}) {
    EXPECT_NE(error(body).find("expected a mark on the stack, got none"), std::string::npos)
        << body;
  }
  EXPECT_NE(error("").find("expected one value at the end, got 0"), std::string::npos);
  EXPECT_NE(error("}}").find("expected one value at the end, got 2"), std::string::npos);
  EXPECT_NE(error("}(").find("expected one value at the end, got 1"), std::string::npos);
  EXPECT_NE(error("h\x05").find("expected a value in the memo, got none under 5"),
            std::string::npos);
  EXPECT_NE(error("}(Nu").find("expected keys and values, got a key without a value"),
            std::string::npos);
  EXPECT_NE(error("N(NNu").find("expected a dict to set items of, got None"), std::string::npos);
}

TEST(PickledTensors, RefusesEveryCut) {
  const std::string whole = pickle(dict_op({{"w", tensor_op(0, {4}, {1})}}));
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(pickle_error(whole.substr(0, size)).find("(it is cut short)"), std::string::npos)
        << size;
  }
  EXPECT_NE(error("X" + number_bytes(0xffffffff, 4) + "x").find("(it is cut short)"),
            std::string::npos);
}

TEST(PickledTensors, StaysSmallAndFlatWhateverTheFile) {
  std::string deep(1 << 20, '\x85');
  EXPECT_EQ(error(")" + deep), "[p] pickle, expected a dict of tensors, got a tuple");
  EXPECT_NE(error(std::string(1 << 20, ']')).find("expected one value at the end, got 1048576"),
            std::string::npos);
  EXPECT_NE(error(std::string(1 << 20, '(')).find("expected one value at the end"),
            std::string::npos);
  // A memo slot far out, and a list that holds itself.
  EXPECT_TRUE(read_pickled_tensors(pickle("}r" + number_bytes(0xffffffff, 4)), "p").empty());
  EXPECT_EQ(error("]q\x01h\x01"
                  "a"),
            "[p] pickle, expected a dict of tensors, got a list");
  // A long text does not become many long names.
  EXPECT_NE(
      error(text_op(std::string(1000, 'x')) + "q\x01h\x01\x93").find("expected a name of 128"),
      std::string::npos);
  EXPECT_EQ(
      value_error(tensor_op(0, {1}, {1}, storage_op(1, "HalfStorage", std::string(129, '7')))),
      "[p] key 'w', expected a storage's name of at most 128 bytes, got a longer one");
  EXPECT_EQ(pickle_error(std::string((1 << 22) + 1, 'N')),
            "[p] pickle, expected at most 4194304 bytes, got 4194305");
}

TEST(PickledTensors, RefusesKeysThatNameNoTensorOrTwo) {
  const std::string tensor = tensor_op(0, {4}, {1});
  EXPECT_EQ(error("}(K\x01" + tensor + "u"), "[p] key, expected a tensor's name, got an int");
  EXPECT_EQ(error(dict_op({{"w", tensor}, {"w", tensor}})),
            "[p] key 'w', expected once, got it twice");
}

TEST(PickledTensors, RefusesArgumentsOfOtherKinds) {
  const auto call = [](const std::string& arguments) {
    return value_error("ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + "tR");
  };
  const std::string storage = storage_op(4), sizes = tuple_op({4}), hooks = "}";
  EXPECT_EQ(call(""), "[p] key 'w', expected a plain dense tensor, got one with other arguments");
  EXPECT_EQ(call(storage + "N" + sizes + sizes + "\x89" + hooks),
            "[p] key 'w', expected a plain dense tensor, got one with other arguments");
  EXPECT_EQ(call("N" + int_op(0) + sizes + sizes + "\x89" + hooks),
            "[p] key 'w', expected a tensor with a storage, got None");
  EXPECT_EQ(call("NQ" + int_op(0) + sizes + sizes + "\x89" + hooks),
            "[p] key 'w', expected a tensor with a storage, got a bare storage");
  EXPECT_EQ(call(storage + int_op(0) + "]" + sizes + "\x89" + hooks),
            "[p] key 'w', expected a shape and strides of at most 64 numbers, got a list");
  EXPECT_EQ(call(storage + int_op(0) + "(Nt" + sizes + "\x89" + hooks),
            "[p] key 'w', expected sizes and strides from 0, got None");
  EXPECT_EQ(call(storage + int_op(0) + tuple_op({-4}) + sizes + "\x89" + hooks),
            "[p] key 'w', expected sizes and strides from 0, got -4");
  EXPECT_EQ(call(storage_op(4, "QInt8Storage") + int_op(0) + sizes + sizes + "\x89" + hooks),
            "[p] key 'w', expected a storage of numbers, got torch.QInt8Storage (not supported)");
}

}  // namespace
}  // namespace headlens
