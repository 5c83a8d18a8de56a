// headlens/tests: what the fuzz targets share.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/core/error.h"
#include "headlens/core/log.h"

/// What libFuzzer calls with every input; regressions_main.cpp calls it with files.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
#ifdef HEADLENS_FUZZ
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);
#endif

namespace headlens::fuzz {

inline std::string_view view(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Runs a reader: only our own errors may leave it, and whatever else does ends the process.
template <typename Read>
void only_errors(Read read) {
  try {
    read();
  } catch (const Error&) {
  }
}

/// Ends the process where a property of a reader does not hold.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: %s does not hold\n", what);
  std::abort();
}

/// A folder in memory, this process's own: $TMPDIR (scripts/fuzz removes it), else /dev/shm.
class Scratch {
 public:
  Scratch() {
    set_log_level(LogLevel::Off);
    const char* const base = std::getenv("TMPDIR");
    std::string pattern =
        std::string(base == nullptr ? "/dev/shm" : base) + "/headlens-fuzz-XXXXXX";
    require(::mkdtemp(pattern.data()) != nullptr, "a scratch folder");
    folder_ = pattern;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path path(const char* name) const { return folder_ / name; }

  /// Puts the bytes into a file of the folder.
  std::filesystem::path write(const char* name, std::string_view bytes) const {
    std::filesystem::path file = path(name);
    const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0, "a scratch file");
    require(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
            "a write to a scratch file");
    ::close(fd);
    return file;
  }

 private:
  std::filesystem::path folder_;
};

/// The input cut at NULs: one more part than there are NULs.
inline std::vector<std::string> parts_of(std::string_view input) {
  std::vector<std::string> parts(1);
  for (const char c : input) {
    if (c == '\0') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

/// Takes numbers off the front of an input; zeros when it is empty.
class Bytes {
 public:
  explicit Bytes(std::string_view rest) : rest_(rest) {}

  size_t number(size_t below) { return static_cast<uint8_t>(take(1)[0]) % below; }
  std::string take(size_t size) {
    std::string out(rest_.substr(0, size));
    rest_.remove_prefix(out.size());
    out.resize(size, '\0');
    return out;
  }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

/// Where the tokenizers of fuzz_text.cpp lie: $HEADLENS_FUZZ_DATA, else the goldens.
inline std::filesystem::path data_folder() {
  const char* const told = std::getenv("HEADLENS_FUZZ_DATA");
  return told == nullptr ? HEADLENS_GOLDEN_DIR : told;
}

}  // namespace headlens::fuzz
