// headlens/core: strict, typed reading of JSON objects.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/check.h"

namespace headlens {

/// Parses JSON text. Duplicate keys are errors. Reads the infinities and NaN in both spellings
/// found in config.json: Python's bare `Infinity` and transformers' `{"__float__": "Infinity"}`.
/// Throws ConfigError "[source:line:column] ..."; `source` is usually a file name.
nlohmann::json parse_json(std::string_view text, const std::string& source);

/// All of a file. Throws ConfigError with the system's reason if it cannot be read.
std::string read_text_file(const std::filesystem::path& path);

/// Reads and parses a file as parse_json() does.
nlohmann::json read_json_file(const std::filesystem::path& path);

/// The JSON type with a short excerpt of the value, for messages: `string "x"`.
std::string describe_json(const nlohmann::json& value);

/// How a C++ type is read from JSON: its name in messages, which values fit, and the value.
template <typename T>
struct JsonType;

/// A reader over one JSON object that records which keys were read. Copies and the readers that
/// object() returns share the record. A null value counts as absent.
class JsonFields {
 public:
  /// `where` opens every message; throws ConfigError if `value` is not an object.
  JsonFields(nlohmann::json value, std::string where);

  /// The value of a key that must be there and have type T: bool, an integer, a floating-point
  /// type (integers fit), std::string, or a std::vector of those. Throws ConfigError.
  template <typename T>
  T required(std::string_view key) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) fail(key, JsonType<T>::name(), nullptr);
    return convert<T>(key, *value);
  }

  /// As required(), but `fallback` if the key is absent.
  template <typename T>
  T optional(std::string_view key, T fallback) const {
    const nlohmann::json* value = find(key);
    return value == nullptr ? std::move(fallback) : convert<T>(key, *value);
  }

  /// Whether the key is there and not null; asking does not count as reading it.
  bool has(std::string_view key) const;
  /// The raw value, or nullptr if absent; counts as reading all of it.
  const nlohmann::json* find(std::string_view key) const;
  /// A reader over the object under a required key; its keys are recorded one by one.
  JsonFields object(std::string_view key) const;
  /// Marks keys that do not change the maths as read; they need not be there.
  void ignore(std::initializer_list<std::string_view> keys) const;
  /// Keys nobody read, sorted, as dotted paths from this object ("rope_scaling.factor").
  std::vector<std::string> unread() const;
  /// Throws ConfigError that names the unread keys, if there are any.
  void check_all_read() const;

  /// The object itself and the `where` of its messages.
  const nlohmann::json& value() const { return *value_; }
  const std::string& where() const { return where_; }

 private:
  struct Record {
    std::set<std::string> read;     // dotted paths from the root
    std::set<std::string> entered;  // objects opened by object()
  };
  JsonFields(std::shared_ptr<const nlohmann::json> root, const nlohmann::json* value,
             std::string where, std::string prefix, std::shared_ptr<Record> record);

  const nlohmann::json* peek(std::string_view key) const;
  void collect_unread(const nlohmann::json& value, const std::string& prefix,
                      std::vector<std::string>& out) const;
  [[noreturn]] void fail(std::string_view key, const std::string& expected,
                         const nlohmann::json* got) const;

  template <typename T>
  T convert(std::string_view key, const nlohmann::json& value) const {
    if (!JsonType<T>::fits(value)) fail(key, JsonType<T>::name(), &value);
    return JsonType<T>::get(value);
  }

  std::shared_ptr<const nlohmann::json> root_;
  const nlohmann::json* value_;
  std::string where_;
  std::string prefix_;  // "" or "rope_scaling."
  std::shared_ptr<Record> record_;
};

template <>
struct JsonType<bool> {
  static std::string name() { return "boolean"; }
  static bool fits(const nlohmann::json& v) { return v.is_boolean(); }
  static bool get(const nlohmann::json& v) { return v.get<bool>(); }
};

template <>
struct JsonType<std::string> {
  static std::string name() { return "string"; }
  static bool fits(const nlohmann::json& v) { return v.is_string(); }
  static std::string get(const nlohmann::json& v) { return v.get<std::string>(); }
};

template <typename T>
requires std::is_floating_point_v<T>
struct JsonType<T> {
  static std::string name() { return "number"; }
  static bool fits(const nlohmann::json& v) { return v.is_number(); }
  static T get(const nlohmann::json& v) { return v.get<T>(); }
};

template <typename T>
requires std::is_integral_v<T>
struct JsonType<T> {
  static std::string name() { return "integer"; }
  static bool fits(const nlohmann::json& v) {
    if (v.is_number_unsigned()) return std::in_range<T>(v.get<uint64_t>());
    return v.is_number_integer() && std::in_range<T>(v.get<int64_t>());
  }
  static T get(const nlohmann::json& v) { return v.get<T>(); }
};

template <typename T>
struct JsonType<std::vector<T>> {
  static std::string name() { return "array of " + JsonType<T>::name(); }
  static bool fits(const nlohmann::json& v) {
    return v.is_array() && std::all_of(v.begin(), v.end(), JsonType<T>::fits);
  }
  static std::vector<T> get(const nlohmann::json& v) {
    std::vector<T> out;
    out.reserve(v.size());
    for (const auto& item : v) out.push_back(JsonType<T>::get(item));
    return out;
  }
};

}  // namespace headlens
