// headlens/tests: files that are written whole or not at all.
#include "core/whole_file.h"

#include <gtest/gtest.h>

#include <fstream>
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

size_t file_count(const TempDir& dir) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(dir.path()), {}));
}

TEST(WholeFile, WritesEveryByteAndReplaces) {
  const TempDir dir;
  const std::string bytes("a\0\xff\n", 4), big(3 << 20, 'x');
  write_whole_file(dir.path() / "x", bytes);
  EXPECT_EQ(contents(dir.path() / "x"), bytes);
  write_whole_file(dir.path() / "x", big);
  EXPECT_EQ(contents(dir.path() / "x"), big);
  write_whole_file(dir.path() / "x", "");
  EXPECT_EQ(contents(dir.path() / "x"), "");
  EXPECT_EQ(file_count(dir), 1u);
}

TEST(WholeFile, LeavesTheOldFileUntilCommit) {
  const TempDir dir;
  const auto path = dir.write("x", "old");
  {
    WholeFile file(path);
    file.write("new", 3);
    EXPECT_EQ(contents(path), "old");
  }
  EXPECT_EQ(contents(path), "old");
  EXPECT_EQ(file_count(dir), 1u);
}

TEST(WholeFile, HasNoNameUntilItIsWhole) {
  const TempDir dir;
  WholeFile file(dir.path() / "x");
  file.write("half", 4);
  EXPECT_EQ(file_count(dir), 0u);  // a process killed here leaves nothing
  file.commit();
  EXPECT_EQ(file_count(dir), 1u);
}

TEST(WholeFile, WritesToADeviceInsteadOfReplacingIt) {
  const TempDir dir;
  const auto link = dir.path() / "null";  // were it replaced, only the link would be gone
  std::filesystem::create_symlink("/dev/null", link);
  write_whole_file(link, "x");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_TRUE(std::filesystem::is_character_file(link));
  EXPECT_EQ(file_count(dir), 1u);
}

TEST(WholeFile, NamesTheFileItCannotWrite) {
  const TempDir dir;
  const auto nowhere = dir.path() / "none" / "x";
  EXPECT_EQ(
      error_message<Error>([&] { write_whole_file(nowhere, "x"); }),
      "[" + nowhere.string() + "] file, expected to be created, got No such file or directory");
  const auto folder = dir.path() / "folder";
  std::filesystem::create_directory(folder);
  EXPECT_EQ(error_message<Error>([&] { write_whole_file(folder, "x"); }),
            "[" + folder.string() + "] file, expected to be finished, got Is a directory");
  EXPECT_EQ(file_count(dir), 1u);
}

}  // namespace
}  // namespace headlens
