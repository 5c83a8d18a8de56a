// headlens/tests: files mapped into memory.
#include "core/mapped_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>

#include "error_message.h"
#include "headlens/core/error.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

TEST(MappedFile, ShowsTheBytes) {
  const TempDir dir;
  const MappedFile file(dir.write("f", "hello"));
  ASSERT_EQ(file.size(), 5u);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.data()), file.size()), "hello");
}

TEST(MappedFile, KeepsWritesToItself) {
  const TempDir dir;
  const auto path = dir.write("f", "hello");
  const MappedFile file(path);
  file.data()[0] = std::byte{'j'};
  std::ifstream stream(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(stream), {}), "hello");
}

TEST(MappedFile, ReadsTheFileItself) {
  const TempDir dir;
  const auto path = dir.write("f", "hello");
  const MappedFile file(path);
  file.data()[1] = std::byte{'u'};
  std::string got(3, ' ');
  EXPECT_TRUE(file.read(1, reinterpret_cast<std::byte*>(got.data()), 3));
  EXPECT_EQ(got, "ell");
  EXPECT_FALSE(file.read(3, reinterpret_cast<std::byte*>(got.data()), 3));
  std::filesystem::resize_file(path, 1);
  EXPECT_FALSE(file.read(1, reinterpret_cast<std::byte*>(got.data()), 3));
}

TEST(MappedFile, ReleasesWholePagesOnly) {
  const TempDir dir;
  const MappedFile file(dir.write("f", std::string(1 << 18, 'a')));  // four of the largest pages
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  for (size_t i = 0; i < file.size(); ++i) file.data()[i] = std::byte{'b'};
  file.release(1, 2 * page - 1);  // no whole page
  EXPECT_EQ(file.data()[page], std::byte{'b'});
  file.release(1, 2 * page + 1);  // the second page
  EXPECT_EQ(file.data()[page - 1], std::byte{'b'});
  EXPECT_EQ(file.data()[page], std::byte{'a'});
  EXPECT_EQ(file.data()[2 * page - 1], std::byte{'a'});
  EXPECT_EQ(file.data()[2 * page], std::byte{'b'});
}

TEST(MappedFile, AcceptsAnEmptyFile) {
  const TempDir dir;
  const MappedFile file(dir.write("f", ""));
  EXPECT_EQ(file.size(), 0u);
}

TEST(MappedFile, SaysWhyItCannotOpen) {
  const TempDir dir;
  const std::string missing = (dir.path() / "none").string();
  EXPECT_EQ(error_message<CheckpointError>([&] { MappedFile file(missing); }),
            "[" + missing + "] file, expected to be opened, got No such file or directory");
  EXPECT_EQ(error_message<CheckpointError>([&] { MappedFile file(dir.path()); }),
            "[" + dir.path().string() + "] file, expected a regular one, got another kind");
  const std::string pipe = (dir.path() / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);  // nobody writes to it: opening must not wait
  EXPECT_EQ(error_message<CheckpointError>([&] { MappedFile file(pipe); }),
            "[" + pipe + "] file, expected a regular one, got another kind");
}

}  // namespace
}  // namespace headlens
