// headlens/tasks: one line of a JSON Lines file, read strictly.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace headlens {

/// A JSON object that says of each key what is wrong with it: TaskError
/// "[task] FILE line N: 'key', expected X, got Y".
class JsonLine {
 public:
  JsonLine(const std::string& text, std::string source);
  /// An object within a file that is no JSON Lines; `source` is what messages name.
  JsonLine(nlohmann::json value, std::string source);

  const std::string& source() const { return source_; }
  bool has(const char* key) const { return value_.contains(key) && !value_[key].is_null(); }
  bool is(const char* key, bool (nlohmann::json::*fits)() const noexcept) const;
  /// Everything the line says, for telling lines apart.
  std::string everything() const { return value_.dump(); }

  const nlohmann::json& required(const char* key, const char* kind,
                                 bool (nlohmann::json::*fits)() const noexcept) const;
  std::string string(const char* key) const;
  /// A string that is not empty.
  std::string text(const char* key) const;
  int64_t integer(const char* key) const;
  int64_t integer(const nlohmann::json& value, const char* key) const;
  /// 0 .. count - 1.
  int64_t index(const char* key, int64_t count) const;
  std::vector<std::string> strings(const char* key, size_t least) const;
  /// The object under a key; messages name it as "key".
  JsonLine object(const char* key) const;
  /// A key of the line that looks like a slip of `key`, quoted.
  std::optional<std::string> near_key(const char* key) const;

 private:
  void check_object() const;

  nlohmann::json value_;
  std::string source_;
};

/// The lines of a file but for blank ones. TaskError if it cannot be read or has none.
std::vector<JsonLine> read_json_lines(const std::filesystem::path& file);

/// The lines of a text file, blank ones too. TaskError if it cannot be read.
std::vector<std::string> read_lines(const std::filesystem::path& file);

/// All of a file. TaskError if it cannot be read.
std::string read_whole(const std::filesystem::path& file);

}  // namespace headlens
