// headlens/tests: directories of zip archives, whole and broken.
#include "core/zip_members.h"

#include <gtest/gtest.h>

#include "error_message.h"
#include "headlens/core/error.h"
#include "torch_archive.h"

namespace headlens {
namespace {

using testing::Member;
using testing::number_bytes;
using testing::zip_of;

std::string zip_error(const std::string& archive) {
  return testing::error_message<CheckpointError>([&] { zip_members(archive, "a.bin"); });
}

TEST(ZipMembers, FindsTheBytesOfEach) {
  const std::string archive = zip_of({{"d/x", "hello"}, {"d/empty", ""}, {"y", "ab"}});
  const auto members = zip_members(archive, "a.bin");
  ASSERT_EQ(members.size(), 3u);
  const auto bytes = [&](const char* name) {
    const ZipMember& m = members.at(name);
    return archive.substr(m.begin, m.size());
  };
  EXPECT_EQ(bytes("d/x"), "hello");
  EXPECT_EQ(bytes("d/empty"), "");
  EXPECT_EQ(bytes("y"), "ab");
  EXPECT_TRUE(zip_members(zip_of({}), "a.bin").empty());
}

TEST(ZipMembers, ReadsTheExtensionTo64Bits) {
  // One member whose size and place are in the extra field, and a directory known by the 64-bit end
  // record alone.
  const std::string local = zip_of({{"x", "hello"}}).substr(0, 30 + 1 + 5);
  const std::string extra = number_bytes(1, 2) + number_bytes(24, 2) + number_bytes(5, 8) +
                            number_bytes(5, 8) + number_bytes(0, 8);
  const std::string entry = number_bytes(0x02014b50, 4) + number_bytes(0, 16) +
                            number_bytes(0xffffffff, 4) + number_bytes(0xffffffff, 4) +
                            number_bytes(1, 2) + number_bytes(extra.size(), 2) +
                            number_bytes(0, 10) + number_bytes(0xffffffff, 4) + "x" + extra;
  const std::string end64 = number_bytes(0x06064b50, 4) + number_bytes(44, 8) +
                            number_bytes(0, 12) + number_bytes(1, 8) + number_bytes(1, 8) +
                            number_bytes(entry.size(), 8) + number_bytes(local.size(), 8);
  const std::string locator = number_bytes(0x07064b50, 4) + number_bytes(0, 4) +
                              number_bytes(local.size() + entry.size(), 8) + number_bytes(1, 4);
  const std::string end = number_bytes(0x06054b50, 4) + number_bytes(0, 4) +
                          number_bytes(0xffffffff, 4) + number_bytes(0xffffffff, 4) +
                          number_bytes(0xffffffff, 4) + number_bytes(0, 2);
  const auto members = zip_members(local + entry + end64 + locator + end, "a.bin");
  ASSERT_EQ(members.size(), 1u);
  EXPECT_EQ(members.at("x").begin, 31u);
  EXPECT_EQ(members.at("x").size(), 5u);
}

TEST(ZipMembers, SaysWhichAreNotStoredAsTheyAre) {
  const auto stored = [](Member member) {
    return zip_members(zip_of({std::move(member)}), "a.bin").at("x").stored;
  };
  EXPECT_TRUE(stored({"x", "hello"}));
  EXPECT_FALSE(stored({"x", "hello", 8}));
  EXPECT_FALSE(stored({"x", "hello", 0, 1}));
}

TEST(ZipMembers, RefusesANameGivenTwice) {
  EXPECT_EQ(zip_error(zip_of({{"x", "a"}, {"x", "b"}})),
            "[a.bin] member 'x', expected once, got twice");
}

TEST(ZipMembers, RefusesMembersOutsideTheFile) {
  const auto outside = [](uint64_t shift, uint64_t more) {
    return zip_error(zip_of({{"x", "hello", 0, 0, shift, more}}));
  };
  EXPECT_EQ(outside(0, 1000),
            "[a.bin] member 'x', expected its 1005 bytes within the file, got it outside");
  for (const uint64_t shift : {1u, 1000u, 0xfffffffeu, 0xffffffffu}) {
    EXPECT_EQ(outside(shift, 0),
              "[a.bin] member 'x', expected its 5 bytes within the file, got it outside");
  }
}

TEST(ZipMembers, RefusesEveryCut) {
  const std::string archive = zip_of({{"x", "hello"}, {"y", "ab"}});
  for (size_t size = 0; size < archive.size(); ++size) {
    EXPECT_EQ(zip_error(archive.substr(0, size)),
              "[a.bin] zip archive, expected its directory at the end, got none (the file is cut "
              "short)");
  }
  // Cut at the front: the directory is there, and is not where it says.
  EXPECT_EQ(zip_error(archive.substr(1)),
            "[a.bin] zip archive, expected a directory entry, got none there");
}

TEST(ZipMembers, SurvivesAnyChangedByte) {
  const std::string archive = zip_of({{"x", "hello"}, {"y", "ab"}});
  for (size_t at = 0; at < archive.size(); ++at) {
    for (const int change : {1, 0x80, 0xff}) {
      std::string changed = archive;
      changed[at] = static_cast<char>(changed[at] ^ change);
      try {
        for (const auto& [name, member] : zip_members(changed, "a.bin")) {
          EXPECT_LE(member.end, changed.size());
        }
      } catch (const CheckpointError& error) {
        EXPECT_EQ(std::string(error.what()).rfind("[a.bin] ", 0), 0u);
      }
    }
  }
}

}  // namespace
}  // namespace headlens
