// headlens/core: where the members of a zip archive in memory lie.
#include "core/zip_members.h"

#include <optional>

#include "core/check.h"

namespace headlens {
namespace {

// Records of the format, by signature and size without what varies (PKWARE APPNOTE 4.3).
constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr uint32_t kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr uint64_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22;
constexpr uint64_t kEnd64Size = 56, kLocator64Size = 20, kMaxComment = 0xffff;
constexpr uint64_t kIn64 = 0xffffffff;  // a 32-bit field whose value is in the 64-bit extension
constexpr uint16_t kExtra64 = 1, kEncrypted = 1;

struct Directory {
  uint64_t begin = 0, size = 0, count = 0;
};

/// What a directory entry says.
struct Entry {
  std::string name;
  uint64_t flags = 0, method = 0, packed = 0, size = 0, local = 0;
  uint64_t next = 0;  // offset of the entry after it
};

class Archive {
 public:
  Archive(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  Directory directory() const {
    const uint64_t end = find_end();
    Directory out{number(end + 16, 4), number(end + 12, 4), number(end + 10, 2)};
    if (end >= kLocator64Size && number(end - kLocator64Size, 4) == kLocator64) {
      const uint64_t at = number(end - kLocator64Size + 8, 8);
      check(fits(at, kEnd64Size) && number(at, 4) == kEnd64, "end record of 64 bits", "none there");
      out = {number(at + 48, 8), number(at + 40, 8), number(at + 32, 8)};
    }
    check(fits(out.begin, out.size), "directory within the file", "one that reaches outside");
    return out;
  }

  Entry entry(uint64_t at) const {
    check(fits(at, kCentralSize) && number(at, 4) == kCentral, "directory entry", "none there");
    const uint64_t name = number(at + 28, 2), extra = number(at + 30, 2);
    const uint64_t length = kCentralSize + name + extra + number(at + 32, 2);
    check(fits(at, length), "directory entry", "one that is cut short");
    Entry out{std::string(bytes_.substr(at + kCentralSize, name)),
              number(at + 8, 2),
              number(at + 10, 2),
              number(at + 20, 4),
              number(at + 24, 4),
              number(at + 42, 4),
              at + length};
    widen(out, at + kCentralSize + name, extra);
    return out;
  }

  ZipMember member(const Entry& entry) const {
    const bool has_header = fits(entry.local, kLocalSize) && number(entry.local, 4) == kLocal;
    const uint64_t begin = has_header ? entry.local + kLocalSize + number(entry.local + 26, 2) +
                                            number(entry.local + 28, 2)
                                      : 0;
    HEADLENS_CHECK(CheckpointError, has_header && fits(begin, entry.packed),
                   "[{}] member '{}', expected its {} bytes within the file, got it outside",
                   where_, entry.name, entry.packed);
    const bool stored =
        entry.method == 0 && (entry.flags & kEncrypted) == 0 && entry.packed == entry.size;
    return {begin, begin + entry.packed, stored};
  }

 private:
  bool fits(uint64_t at, uint64_t size) const {
    return at <= bytes_.size() && size <= bytes_.size() - at;
  }

  /// A little-endian number of `size` bytes, which must be there.
  uint64_t number(uint64_t at, int size) const {
    uint64_t value = 0;
    for (int i = 0; i < size; ++i) {
      value |= uint64_t{static_cast<uint8_t>(bytes_[at + static_cast<uint64_t>(i)])} << (8 * i);
    }
    return value;
  }

  void check(bool good, const char* expected, const char* got) const {
    HEADLENS_CHECK(CheckpointError, good, "[{}] zip archive, expected a {}, got {}", where_,
                   expected, got);
  }

  /// The end record: the last one whose comment ends with the file.
  uint64_t find_end() const {
    for (uint64_t comment = 0; comment <= kMaxComment; ++comment) {
      if (bytes_.size() < kEndSize + comment) break;
      const uint64_t at = bytes_.size() - kEndSize - comment;
      if (number(at, 4) == kEnd && number(at + 20, 2) == comment) return at;
    }
    HEADLENS_FAIL(CheckpointError,
                  "[{}] zip archive, expected its directory at the end, got none (the file is cut "
                  "short)",
                  where_);
  }

  /// Values that do not fit 32 bits are in an extra field, in this order, each only if needed.
  void widen(Entry& entry, uint64_t at, uint64_t size) const {
    const uint64_t end = at + size;
    while (at + 4 <= end) {
      const uint64_t id = number(at, 2), length = number(at + 2, 2);
      uint64_t field = at + 4;
      at = field + length;
      if (id != kExtra64 || at > end) continue;
      for (uint64_t* value : {&entry.size, &entry.packed, &entry.local}) {
        if (*value != kIn64 || field + 8 > at) continue;
        *value = number(field, 8);
        field += 8;
      }
    }
  }

  std::string_view bytes_;
  const std::string& where_;
};

}  // namespace

std::map<std::string, ZipMember, std::less<>> zip_members(std::string_view archive,
                                                          const std::string& where) {
  const Archive zip(archive, where);
  const Directory directory = zip.directory();
  std::map<std::string, ZipMember, std::less<>> members;
  uint64_t at = directory.begin;
  for (uint64_t i = 0; i < directory.count; ++i) {
    const Entry entry = zip.entry(at);  // fails at the archive's end, however many are promised
    HEADLENS_CHECK(CheckpointError, members.emplace(entry.name, zip.member(entry)).second,
                   "[{}] member '{}', expected once, got twice", where, entry.name);
    at = entry.next;
  }
  return members;
}

}  // namespace headlens
