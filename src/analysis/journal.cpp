// headlens/analysis: the file that keeps what a run has finished, so that a killed one can go on.
#include "headlens/analysis/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/whole_file.h"
#include "headlens/core/log.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little, "numbers in a journal are little-endian");

constexpr std::string_view kMagic = "headlens.journal/1\n";
constexpr size_t kHead = 12;  // of a record: CRC-32, length of the key, length of the value

uint32_t crc(std::string_view bytes) {
  return static_cast<uint32_t>(
      ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

void put(std::string& bytes, uint32_t number) {
  bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
}

uint32_t number_at(std::string_view bytes, size_t at) {
  uint32_t number = 0;
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

/// CRC-32 of what follows it, the two lengths, the key, the value.
std::string record_bytes(std::string_view key, std::string_view value) {
  HEADLENS_CHECK(Error, key.size() <= UINT32_MAX && value.size() <= UINT32_MAX,
                 "[journal] record, expected at most 4 GB, got {} bytes",
                 key.size() + value.size());
  std::string body;
  put(body, static_cast<uint32_t>(key.size()));
  put(body, static_cast<uint32_t>(value.size()));
  body.append(key).append(value);
  std::string record;
  put(record, crc(body));
  return record + body;
}

struct Record {
  std::string key, value;
  size_t end = 0;  // offset of what follows it
};

/// The record at `at`, or nothing where none is whole.
std::optional<Record> record_at(std::string_view bytes, size_t at) {
  if (bytes.size() - at < kHead) return std::nullopt;
  const uint64_t key = number_at(bytes, at + 4), value = number_at(bytes, at + 8);
  if (key + value > bytes.size() - at - kHead) return std::nullopt;
  const std::string_view body = bytes.substr(at + 4, kHead - 4 + key + value);
  if (crc(body) != number_at(bytes, at)) return std::nullopt;
  return Record{std::string(body.substr(kHead - 4, key)), std::string(body.substr(kHead - 4 + key)),
                at + kHead + key + value};
}

/// Does the file end within the record at `at`, as after a kill? Else its bytes have changed.
bool is_torn(std::string_view bytes, size_t at) {
  if (bytes.size() - at < kHead) return true;
  const uint64_t key = number_at(bytes, at + 4), value = number_at(bytes, at + 8);
  return key + value > bytes.size() - at - kHead;
}

std::string read_all(int fd, const fs::path& path) {
  std::string bytes;
  char block[1 << 16];
  for (;;) {
    const ssize_t got = ::read(fd, block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    HEADLENS_CHECK(Error, got >= 0, "[{}] journal, expected to be read, got {}", path.string(),
                   std::strerror(errno));
    if (got == 0) return bytes;
    bytes.append(block, static_cast<size_t>(got));
  }
}

Json header_json(const RunIdentity& identity, const std::map<std::string, std::string>& notes) {
  Json fields = Json::object();
  for (const auto& [name, value] : identity) fields[name] = value;
  return {{"identity", fields}, {"notes", notes}};
}

/// Whether an object is there under that key, of texts and nothing else.
bool all_texts(const Json& json, const char* key) {
  const auto it = json.find(key);
  return it != json.end() && it->is_object() &&
         std::all_of(it->begin(), it->end(), [](const Json& value) { return value.is_string(); });
}

/// JSON holds UTF-8 only; a file name need not be.
std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// What the first record says.
struct Header {
  RunIdentity identity;
  std::map<std::string, std::string> notes;
  size_t end = 0;  // offset of what follows it
};

RunIdentity identity_in(const Json& header) {
  RunIdentity fields;
  for (const auto& [name, value] : header["identity"].items()) fields.emplace_back(name, value);
  return fields;
}

RunIdentity as_json_gives_back(const RunIdentity& identity) {
  const Json written = Json::parse(text_of(header_json(identity, {})));
  return identity_in(written);
}

Header header_of(std::string_view bytes, const fs::path& path) {
  const auto record =
      bytes.starts_with(kMagic) ? record_at(bytes, kMagic.size()) : std::optional<Record>();
  HEADLENS_CHECK(Error, record.has_value(), "[{}] file, expected a journal of a run, got {} bytes",
                 path.string(), bytes.size());
  const Json json = Json::parse(record->value, nullptr, /*allow_exceptions=*/false);
  const bool known = json.is_object() && all_texts(json, "identity") && all_texts(json, "notes");
  HEADLENS_CHECK(Error, known, "[{}] header, expected identity and notes, all texts, got '{}'",
                 path.string(), record->value.substr(0, 200));
  return {identity_in(json), json["notes"].get<std::map<std::string, std::string>>(), record->end};
}

/// Of a journal whose record `number`, at `at`, is not whole.
void say_what_is_lost(std::string_view bytes, size_t at, size_t number, const fs::path& path) {
  const size_t left = bytes.size() - at;
  if (is_torn(bytes, at)) {
    log_info(fmt::format("[resume] {}: the last {} bytes are not whole and are done again",
                         path.string(), left));
  } else {
    log_warn(
        fmt::format("[resume] {}: record {} is damaged; it and what follows, {} bytes, are "
                    "done again",
                    path.string(), number, left));
  }
}

}  // namespace

std::optional<std::string> first_difference(const RunIdentity& expected, const RunIdentity& got) {
  for (size_t i = 0; i < std::max(expected.size(), got.size()); ++i) {
    const bool both = i < expected.size() && i < got.size();
    if (both && expected[i] == got[i]) continue;
    const auto value = [&](const RunIdentity& side) {
      return i < side.size() ? side[i].second : "nothing";
    };
    const auto& name = i < expected.size() ? expected[i].first : got[i].first;
    return fmt::format("{}, expected '{}', got '{}'", name, value(expected), value(got));
  }
  return std::nullopt;
}

std::string checksum_text(std::string_view bytes) {
  return fmt::format("{:08x}", crc(bytes));
}

Journal::Journal(Journal&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      records_(std::move(other.records_)),
      notes_(std::move(other.notes_)) {}

Journal& Journal::operator=(Journal&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(records_, other.records_);
  std::swap(notes_, other.notes_);
  return *this;
}

Journal::~Journal() {
  if (fd_ >= 0) ::close(fd_);
}

Journal Journal::open(const fs::path& path, const RunIdentity& identity,
                      const std::map<std::string, std::string>& notes, Existing existing) {
  std::error_code ignored;
  const bool there = fs::exists(path, ignored);
  HEADLENS_CHECK(UsageError, !there || existing == Existing::Resume,
                 "[resume] {}, expected --resume to go on with an unfinished run (or the file "
                 "removed), got neither",
                 path.string());
  if (!there) {  // whole or not at all: a journal always says whose it is
    write_whole_file(path,
                     std::string(kMagic) + record_bytes("", text_of(header_json(identity, notes))));
  }
  Journal journal(path);
  journal.fd_ = ::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC);
  HEADLENS_CHECK(Error, journal.fd_ >= 0, "[{}] journal, expected to be opened, got {}",
                 path.string(), std::strerror(errno));
  journal.lock();
  journal.read(identity);
  return journal;
}

void Journal::lock() {
  HEADLENS_CHECK(Error, ::flock(fd_, LOCK_EX | LOCK_NB) == 0,
                 "[{}] journal, expected no other run to write it, got {}", path_.string(),
                 std::strerror(errno));
}

void Journal::read(const RunIdentity& identity) {
  const std::string bytes = read_all(fd_, path_);
  Header header = header_of(bytes, path_);
  const auto difference = first_difference(header.identity, as_json_gives_back(identity));
  HEADLENS_CHECK(UsageError, !difference, "[resume] {} is of another run: {}", path_.string(),
                 difference.value_or(""));
  notes_ = std::move(header.notes);
  size_t end = header.end;
  while (auto record = record_at(bytes, end)) {
    end = record->end;
    records_.emplace(std::move(record->key), std::move(record->value));
  }
  if (end == bytes.size()) return;
  say_what_is_lost(bytes, end, records_.size() + 1, path_);
  HEADLENS_CHECK(Error, ::ftruncate(fd_, static_cast<off_t>(end)) == 0,
                 "[{}] journal, expected to be cut at its last whole record, got {}",
                 path_.string(), std::strerror(errno));
}

const std::string* Journal::find(const std::string& key) const {
  const auto at = records_.find(key);
  return at == records_.end() ? nullptr : &at->second;
}

void Journal::append(const std::string& key, const std::string& value) {
  if (records_.contains(key)) return;
  const std::string record = record_bytes(key, value);
  std::string_view rest = record;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    HEADLENS_CHECK(Error, written > 0, "[{}] journal, expected to be written, got {}",
                   path_.string(), std::strerror(errno));
    rest.remove_prefix(static_cast<size_t>(written));
  }
  HEADLENS_CHECK(Error, ::fdatasync(fd_) == 0, "[{}] journal, expected to reach the disk, got {}",
                 path_.string(), std::strerror(errno));
  records_.emplace(key, value);
}

void Journal::remove() {
  std::error_code error;
  fs::remove(path_, error);
  HEADLENS_CHECK(Error, !error, "[{}] journal, expected to be removed, got {}", path_.string(),
                 error.message());
}

}  // namespace headlens
