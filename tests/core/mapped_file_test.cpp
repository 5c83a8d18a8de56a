// headlens/tests: files mapped into memory.
#include "core/mapped_file.h"

#include <sys/stat.h>

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
