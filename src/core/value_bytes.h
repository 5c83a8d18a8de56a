// headlens/core: plain values as bytes, as the machine holds them, to be kept and read again.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/check.h"

namespace headlens {

/// Values one after another.
class ValueWriter {
 public:
  template <typename T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put_text(const std::string& text) {
    put(text.size());
    bytes += text;
  }
  template <typename T>
  void put_list(const std::vector<T>& values) {
    put(values.size());
    for (const T& value : values) put(value);
  }
  std::string bytes;
};

/// Reads what a ValueWriter wrote, in its order. Error for bytes that are too few.
class ValueReader {
 public:
  explicit ValueReader(const std::string& bytes) : bytes_(bytes) {}
  explicit ValueReader(std::string&&) = delete;  // it would read what is gone
  template <typename T>
  T get() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string get_text() { return std::string(take(get<size_t>())); }
  template <typename T>
  std::vector<T> get_list() {
    std::vector<T> values;
    for (size_t left = get<size_t>(); left > 0; --left) values.push_back(get<T>());
    return values;
  }
  bool at_end() const { return bytes_.empty(); }

 private:
  std::string_view take(size_t count) {
    HEADLENS_CHECK(Error, count <= bytes_.size(),
                   "[journal] a step's result, expected {} bytes more, got {}", count,
                   bytes_.size());
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  std::string_view bytes_;
};

}  // namespace headlens
