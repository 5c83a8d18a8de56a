// headlens/tests: the bytes of .npz archives, read by hand.
#include "headlens/core/npz.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

std::string contents(const std::filesystem::path& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

template <typename T>
T number_at(const std::string& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));  // little-endian, as the machines we build for
  return value;
}

/// The members of a zip archive whose members are stored as they are (APPNOTE.TXT, 4.3).
std::map<std::string, std::string> stored_members(const std::string& zip) {
  std::map<std::string, std::string> members;
  const size_t end = zip.rfind("PK\x05\x06");
  const auto count = number_at<uint16_t>(zip, end + 10);
  size_t entry = number_at<uint32_t>(zip, end + 16);
  for (uint16_t i = 0; i < count; ++i) {
    EXPECT_EQ(zip.substr(entry, 4), "PK\x01\x02");
    EXPECT_EQ(number_at<uint16_t>(zip, entry + 10), 0) << "expected stored, not compressed";
    const auto size = number_at<uint32_t>(zip, entry + 24);
    const auto name_size = number_at<uint16_t>(zip, entry + 28);
    const auto local = number_at<uint32_t>(zip, entry + 42);
    const size_t data =
        local + 30 + number_at<uint16_t>(zip, local + 26) + number_at<uint16_t>(zip, local + 28);
    members[zip.substr(entry + 46, name_size)] = zip.substr(data, size);
    entry += 46 + name_size + number_at<uint16_t>(zip, entry + 30) +
             number_at<uint16_t>(zip, entry + 32);
  }
  return members;
}

/// What NumPy reads in one .npy: header dictionary and data.
struct Npy {
  std::string header;
  std::string data;
};

Npy read_npy(const std::string& bytes) {
  EXPECT_EQ(bytes.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  const auto size = number_at<uint16_t>(bytes, 8);
  EXPECT_EQ((10 + size) % 64, 0);
  EXPECT_EQ(bytes[9 + size], '\n');
  const std::string header = bytes.substr(10, size);
  return {header.substr(0, header.find('}') + 1), bytes.substr(10 + size)};
}

Npy written(const Tensor& tensor) {
  const TempDir dir;
  save_npz(dir.path() / "x.npz", {{"x", tensor}});
  return read_npy(stored_members(contents(dir.path() / "x.npz")).at("x.npy"));
}

TEST(Npz, HoldsEveryTensorUnderItsName) {
  const TempDir dir;
  const auto path = dir.path() / "maps.npz";
  save_npz(path, {{"map.1.0", at::arange(6, at::kFloat).view({2, 3})},
                  {"ids", at::tensor({7, -8}, at::kLong)}});
  const auto members = stored_members(contents(path));
  ASSERT_EQ(members.size(), 2u);
  const Npy map = read_npy(members.at("map.1.0.npy"));
  EXPECT_EQ(map.header, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,3,), }");
  ASSERT_EQ(map.data.size(), 24u);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(number_at<float>(map.data, 4 * i), static_cast<float>(i));
  }
  const Npy ids = read_npy(members.at("ids.npy"));
  EXPECT_EQ(ids.header, "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }");
  EXPECT_EQ(number_at<int64_t>(ids.data, 0), 7);
  EXPECT_EQ(number_at<int64_t>(ids.data, 8), -8);
}

TEST(Npz, WritesRowsInOrderWhateverTheStrides) {
  const Npy npy = written(at::arange(6, at::kDouble).view({2, 3}).t());
  EXPECT_EQ(npy.header, "{'descr': '<f8', 'fortran_order': False, 'shape': (3,2,), }");
  const double expected[] = {0, 3, 1, 4, 2, 5};
  ASSERT_EQ(npy.data.size(), sizeof(expected));
  EXPECT_EQ(std::memcmp(npy.data.data(), expected, sizeof(expected)), 0);
}

TEST(Npz, TypesThatNumPyHas) {
  const std::pair<at::ScalarType, const char*> types[] = {{at::kHalf, "<f2"},  {at::kInt, "<i4"},
                                                          {at::kShort, "<i2"}, {at::kChar, "|i1"},
                                                          {at::kByte, "|u1"},  {at::kBool, "|b1"}};
  for (const auto& [type, name] : types) {
    const Npy npy = written(at::ones({2}, type));
    EXPECT_EQ(npy.header,
              fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': (2,), }}", name));
    EXPECT_EQ(npy.data.size(), 2 * c10::elementSize(type));
  }
}

TEST(Npz, BFloat16BecomesFloat32) {
  const Npy npy = written(at::tensor({1.5, -3.0}).to(at::kBFloat16));
  EXPECT_EQ(npy.header, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }");
  EXPECT_EQ(number_at<float>(npy.data, 0), 1.5F);
  EXPECT_EQ(number_at<float>(npy.data, 4), -3.0F);
}

TEST(Npz, ScalarsAndEmptyTensors) {
  const Npy scalar = written(at::scalar_tensor(2.5, at::kDouble));
  EXPECT_EQ(scalar.header, "{'descr': '<f8', 'fortran_order': False, 'shape': (), }");
  EXPECT_EQ(number_at<double>(scalar.data, 0), 2.5);
  const Npy empty = written(at::zeros({0, 4}, at::kFloat));
  EXPECT_EQ(empty.header, "{'descr': '<f4', 'fortran_order': False, 'shape': (0,4,), }");
  EXPECT_TRUE(empty.data.empty());
}

TEST(Npz, ReplacesAnOldFileWhole) {
  const TempDir dir;
  const auto path = dir.write("x.npz", std::string(10000, 'x'));
  save_npz(path, {{"a", at::ones({1})}});
  EXPECT_EQ(stored_members(contents(path)).size(), 1u);
  EXPECT_LT(std::filesystem::file_size(path), 1000u);
}

TEST(Npz, NamesWhatItCannotWrite) {
  const TempDir dir;
  const auto path = dir.path() / "x.npz";
  const auto error = [&](const std::filesystem::path& to,
                         const std::vector<std::pair<std::string, Tensor>>& tensors) {
    return error_message<CheckpointError>([&] { save_npz(to, tensors); });
  };
  const Tensor one = at::ones({1});
  EXPECT_EQ(error(path, {{"a", one}, {"a", one}}),
            "[" + path.string() + "] tensor name, expected each once and none empty, got 'a'");
  EXPECT_EQ(error(path, {{"", one}}),
            "[" + path.string() + "] tensor name, expected each once and none empty, got ''");
  EXPECT_EQ(error(path, {{"a", at::ones({1}, at::kComplexFloat)}}),
            "[npz] dtype, expected one that NumPy has, got ComplexFloat");
  EXPECT_FALSE(std::filesystem::exists(path));
  const auto nowhere = dir.path() / "none" / "x.npz";
  EXPECT_TRUE(error(nowhere, {{"a", one}}).starts_with("[" + nowhere.string() + "] "));
}

}  // namespace
}  // namespace headlens
