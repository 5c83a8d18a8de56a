// headlens/analysis: the file that keeps what a run has finished, so that a killed one can go on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace headlens {

/// What a result depends on, name by name: model, task, options, version. Two runs may share
/// results if and only if every field is the same.
using RunIdentity = std::vector<std::pair<std::string, std::string>>;

/// Ends with how two identities differ, "NAME, expected A, got B" of the first field that does;
/// nothing if they are the same.
std::optional<std::string> first_difference(const RunIdentity& expected, const RunIdentity& got);

/// CRC-32 (that of zlib and PNG) of `bytes` as eight hexadecimal digits.
std::string checksum_text(std::string_view bytes);

/// An append-only file of (key, value) records, both bytes. Its first record holds the identity of
/// the run and notes about it. A record is on the disk when `append` returns, with its length and a
/// CRC-32 before it (docs/scale.md), so whatever a kill or a full disk left of one is recognised,
/// cut off and done again. One process may hold a journal at a time.
class Journal {
 public:
  /// What `open` does about a file that is there: Refuse and Resume are the flags a user gives.
  enum class Existing {
    Refuse,  ///< an Error
    Resume   ///< goes on from its records
  };

  /// Opens the journal `path`, making it where there is none. UsageError if there is one and
  /// `existing` is Refuse, or if it is of a run with another identity; Error for a file that is no
  /// journal, that another process holds, or that cannot be read or written.
  static Journal open(const std::filesystem::path& path, const RunIdentity& identity,
                      const std::map<std::string, std::string>& notes, Existing existing);

  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&& other) noexcept;
  ~Journal();

  /// The value of a record, or nothing.
  const std::string* find(const std::string& key) const;
  /// Adds a record and waits until it is on the disk. A key that is there is left as it is.
  void append(const std::string& key, const std::string& value);
  /// Removes the file: the run is finished and its results are elsewhere.
  void remove();

  size_t size() const { return records_.size(); }  ///< records
  /// What was noted when the run began, whichever process began it.
  const std::map<std::string, std::string>& notes() const { return notes_; }

 private:
  explicit Journal(std::filesystem::path path) : path_(std::move(path)) {}
  void read(const RunIdentity& identity);
  void lock();

  std::filesystem::path path_;
  int fd_ = -1;
  std::map<std::string, std::string> records_;
  std::map<std::string, std::string> notes_;
};

}  // namespace headlens
