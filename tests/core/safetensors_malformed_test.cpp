// headlens/tests: malformed safetensors files, built byte by byte.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "error_message.h"
#include "headlens/core/error.h"
#include "headlens/core/safetensors.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

std::string length_bytes(uint64_t length) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(length >> (8 * i) & 0xff);
  return out;
}

/// A file with this header and `data_bytes` bytes of data.
std::string file_of(const std::string& header, size_t data_bytes = 0) {
  return length_bytes(header.size()) + header + std::string(data_bytes, '\1');
}

/// The message of opening such a file, after "[path] " (or "[path" for a place in the header).
std::string open_error(const std::string& bytes) {
  const TempDir dir;
  const auto path = dir.write("x", bytes);
  const std::string message = error_message<CheckpointError>([&] { SafetensorsFile::open(path); });
  const std::string prefix = "[" + path.string();
  EXPECT_TRUE(message.starts_with(prefix)) << message;
  const std::string rest = message.substr(std::min(prefix.size(), message.size()));
  return rest.starts_with("] ") ? rest.substr(2) : rest;
}

/// One tensor 'a' with this text for its three fields.
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":)" + entry(dtype, shape, offsets) + "}";
}

const std::string kF32 = "\"F32\"";

TEST(SafetensorsMalformed, CutShort) {
  EXPECT_EQ(open_error(""), "file size, expected at least 8 bytes, got 0");
  EXPECT_EQ(open_error("\x01\0\0"), "file size, expected at least 8 bytes, got 1");
  EXPECT_EQ(open_error(length_bytes(3) + "{}"),
            "header length, expected at most the 2 bytes that follow it, got 3 (the file is cut "
            "short)");
  EXPECT_EQ(
      open_error(file_of(one(kF32, "[2]", "[0,8]"), 7)),
      "tensor 'a', data_offsets, expected a range within the file's 7 data bytes, got [0, 8]");
}

TEST(SafetensorsMalformed, EveryPrefixOfAGoodFileIsRefused) {
  const std::string good = file_of(one(kF32, "[2]", "[0,8]"), 8);
  const TempDir dir;
  EXPECT_NO_THROW(SafetensorsFile::open(dir.write("good", good)));
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THROW(SafetensorsFile::open(dir.write("bad", good.substr(0, size))), CheckpointError)
        << size;
  }
}

TEST(SafetensorsMalformed, HeaderLengthOutOfRange) {
  EXPECT_EQ(open_error(length_bytes(100'000'001) + "{}"),
            "header length, expected at most 100000000 bytes, got 100000001");
  EXPECT_EQ(open_error(length_bytes(UINT64_MAX) + "{}"),
            "header length, expected at most 100000000 bytes, got 18446744073709551615");
}

TEST(SafetensorsMalformed, HeaderIsNotAnObject) {
  const std::string expected =
      "header, expected a JSON object that starts with '{', got other text";
  EXPECT_EQ(open_error(file_of("")), expected);
  EXPECT_EQ(open_error(file_of("[]")), expected);
  EXPECT_EQ(open_error(file_of(" {}")), expected);  // the format itself asks for '{' first
  EXPECT_TRUE(
      open_error(file_of("{\"a\"")).starts_with(" header:1:5] text, expected valid JSON, got "));
  EXPECT_TRUE(
      open_error(file_of("{}x")).starts_with(" header:1:3] text, expected valid JSON, got "));
  EXPECT_TRUE(open_error(file_of("{\"\xff\":1}")).find("ill-formed UTF-8") != std::string::npos);
}

TEST(SafetensorsMalformed, DuplicateKeys) {
  const std::string item = "\"a\":" + entry(kF32, "[1]", "[0,4]");
  EXPECT_EQ(open_error(file_of("{" + item + "," + item + "}", 4)),
            " header] text, expected valid JSON, got duplicate key 'a'");
  EXPECT_EQ(open_error(file_of(R"({"__metadata__":{"k":"1","k":"2"}})")),
            " header] text, expected valid JSON, got duplicate key 'k'");
}

TEST(SafetensorsMalformed, Metadata) {
  EXPECT_EQ(open_error(file_of(R"({"__metadata__":1})")),
            "__metadata__, expected an object, got integer 1");
  EXPECT_EQ(open_error(file_of(R"({"__metadata__":{"k":1}})")),
            "__metadata__ key 'k', expected a string, got integer 1");
}

TEST(SafetensorsMalformed, EntryFields) {
  EXPECT_EQ(open_error(file_of(R"({"a":1})")), "tensor 'a', expected an object, got integer 1");
  EXPECT_EQ(open_error(file_of(R"({"a":{}})")), "tensor 'a', expected a key 'dtype', got none");
  EXPECT_EQ(open_error(file_of(R"({"a":{"dtype":"F32","data_offsets":[0,0]}})")),
            "tensor 'a', expected a key 'shape', got none");
  EXPECT_EQ(open_error(file_of(R"({"a":{"dtype":"F32","shape":[0]}})")),
            "tensor 'a', expected a key 'data_offsets', got none");
  EXPECT_EQ(open_error(file_of(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"x":1}})")),
            "tensor 'a', expected dtype, shape and data_offsets only, got 4 keys");
}

TEST(SafetensorsMalformed, Dtype) {
  const std::string known = "F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL";
  for (const std::string code : {"\"F8_E4M3\"", "\"f32\"", "\"U16\"", "\"\""}) {
    EXPECT_EQ(open_error(file_of(one(code, "[1]", "[0,1]"), 1)),
              "tensor 'a', dtype, expected one of " + known + ", got string " + code +
                  " (not supported)");
  }
  EXPECT_EQ(open_error(file_of(one("7", "[1]", "[0,1]"), 1)),
            "tensor 'a', dtype, expected one of " + known + ", got integer 7 (not supported)");
}

TEST(SafetensorsMalformed, Shape) {
  const auto expected = [](const std::string& got) {
    return "tensor 'a', shape, expected an array of sizes from 0, got " + got;
  };
  EXPECT_EQ(open_error(file_of(one(kF32, "[-1]", "[0,4]"), 4)), expected("array [-1]"));
  EXPECT_EQ(open_error(file_of(one(kF32, "[1.0]", "[0,4]"), 4)), expected("array [1.0]"));
  EXPECT_EQ(open_error(file_of(one(kF32, "1", "[0,4]"), 4)), expected("integer 1"));
  EXPECT_EQ(open_error(file_of(one(kF32, "[18446744073709551615]", "[0,4]"), 4)),
            expected("array [18446744073709551615]"));
}

TEST(SafetensorsMalformed, ShapeOverflow) {
  EXPECT_EQ(open_error(file_of(one(kF32, "[4294967296,4294967296]", "[0,0]"))),
            "tensor 'a', shape [4294967296, 4294967296], expected fewer than 2^63 bytes, got an "
            "overflow");
  EXPECT_EQ(open_error(file_of(one(kF32, "[0,9223372036854775807,2]", "[0,0]"))),
            "tensor 'a', shape [0, 9223372036854775807, 2], expected fewer than 2^63 bytes, got an "
            "overflow");
}

TEST(SafetensorsMalformed, Offsets) {
  for (const std::string offsets : {"[0]", "[0,4,8]", "[0.0,4.0]", "[-4,0]", "[\"0\",4]"}) {
    EXPECT_EQ(open_error(file_of(one(kF32, "[1]", offsets), 4)),
              "tensor 'a', data_offsets, expected two integers from 0, got array " + offsets);
  }
  EXPECT_EQ(
      open_error(file_of(one(kF32, "[1]", "[4,0]"), 4)),
      "tensor 'a', data_offsets, expected a range within the file's 4 data bytes, got [4, 0]");
  EXPECT_EQ(open_error(file_of(one(kF32, "[1]", "[0,18446744073709551615]"), 4)),
            "tensor 'a', data_offsets, expected a range within the file's 4 data bytes, got [0, "
            "18446744073709551615]");
  EXPECT_EQ(open_error(file_of(one(kF32, "[3]", "[0,8]"), 8)),
            "tensor 'a', data_offsets, expected 12 bytes for float32 [3], got 8");
}

TEST(SafetensorsMalformed, HolesOverlapsAndTrailingBytes) {
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"a":)" + entry(kF32, "[1]", first) + R"(,"b":)" + entry(kF32, "[1]", second) + "}";
  };
  EXPECT_EQ(open_error(file_of(two("[0,4]", "[2,6]"), 6)),
            "tensor 'b', overlaps the tensor before it, expected offset 4, got 2");
  EXPECT_EQ(open_error(file_of(two("[0,4]", "[0,4]"), 4)),
            "tensor 'b', overlaps the tensor before it, expected offset 4, got 0");
  EXPECT_EQ(open_error(file_of(two("[0,4]", "[5,9]"), 9)),
            "tensor 'b', leaves a hole before it, expected offset 4, got 5");
  EXPECT_EQ(open_error(file_of(one(kF32, "[1]", "[1,5]"), 5)),
            "tensor 'a', leaves a hole before it, expected offset 0, got 1");
  EXPECT_EQ(open_error(file_of(one(kF32, "[1]", "[0,4]"), 5)),
            "data bytes, expected 4 as the header says, got 5");
  EXPECT_EQ(open_error(file_of("{}", 1)), "data bytes, expected 0 as the header says, got 1");
}

TEST(SafetensorsMalformed, BoolsOfAnotherByte) {
  const TempDir dir;
  const std::string header = one("\"BOOL\"", "[2]", "[0,2]");
  const auto path = dir.write("x", length_bytes(header.size()) + header + "\x01\x02");
  const auto file = SafetensorsFile::open(path);
  EXPECT_EQ(error_message<CheckpointError>([&] { file.tensor("a"); }),
            "[" + path.string() + "] tensor 'a', expected bytes 0 or 1 for bool, got 2");
}

// Legal, though no writer of today makes them.
TEST(SafetensorsUnusual, OutOfOrderEmptyAndUnalignedTensorsAreRead) {
  const TempDir dir;
  const std::string header = R"({"z":)" + entry("\"U8\"", "[1]", "[0,1]") + R"(,"a":)" +
                             entry(kF32, "[1]", "[1,5]") + R"(,"e":)" +
                             entry(kF32, "[0,9]", "[1,1]") + R"(,"s":)" +
                             entry("\"I16\"", "[]", "[5,7]") + "}";
  const std::string data = std::string("\x05") + std::string("\0\0\x80\x3f", 4) + "\x02\x01";
  const auto file = SafetensorsFile::open(dir.write("x", file_of(header) + data));
  EXPECT_EQ(file.tensor("z").item<int>(), 5);
  EXPECT_EQ(file.tensor("a").item<float>(), 1.0f);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.tensor("a").data_ptr()) % 4, 0u);
  EXPECT_EQ(file.tensor("e").sizes(), (at::IntArrayRef{0, 9}));
  EXPECT_EQ(file.tensor("s").item<int>(), 0x0102);
  EXPECT_EQ(file.tensor("s").dim(), 0);
}

}  // namespace
}  // namespace headlens
