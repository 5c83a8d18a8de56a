// headlens/core: strict, typed reading of JSON objects.
#include "core/json_fields.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace headlens {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 200;  // keeps recursion over a hostile file bounded
constexpr std::string_view kFloatKey = "__float__";

/// "source:line:column" of a byte offset.
std::string locate(std::string_view text, size_t offset, const std::string& source) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t line_start = before.rfind('\n') + 1;  // npos + 1 == 0
  return fmt::format("{}:{}:{}", source, line, before.size() - line_start + 1);
}

/// JSON text in which Python's bare Infinity, -Infinity and NaN have become transformers' objects.
class FloatNames {
 public:
  explicit FloatNames(std::string_view text) {
    if (text.find("Infinity") == text.npos && text.find("NaN") == text.npos) {
      out_ = text;
      return;
    }
    bool in_string = false;
    for (size_t i = 0; i < text.size();) {
      const std::string_view name = in_string ? std::string_view() : float_name(text.substr(i));
      if (!name.empty()) {
        out_ += fmt::format("{{\"{}\": \"{}\"}}", kFloatKey, name);
        i += name.size();
        ends_.emplace_back(out_.size(), i);
        continue;
      }
      const bool escape = in_string && text[i] == '\\' && i + 1 < text.size();
      if (text[i] == '"') in_string = !in_string;
      const size_t step = escape ? 2 : 1;
      out_ += text.substr(i, step);
      i += step;
    }
  }

  const std::string& text() const { return out_; }

  /// The offset in the original text of an offset in text().
  size_t original(size_t offset) const {
    size_t shift = 0;
    for (const auto& [here, there] : ends_) {
      if (here <= offset) shift = here - there;
    }
    return offset - shift;
  }

 private:
  static std::string_view float_name(std::string_view rest) {
    for (const std::string_view name : {"Infinity", "-Infinity", "NaN"}) {
      if (rest.starts_with(name)) return rest.substr(0, name.size());
    }
    return {};
  }

  std::string out_;
  std::vector<std::pair<size_t, size_t>>
      ends_;  // of each name: offset here, offset in the original
};

/// The end of nlohmann's "[json.exception...101] parse error at line 1, column 2: syntax error
/// ...": the place is ours to say, since the text was rewritten.
std::string plain_reason(std::string_view what) {
  constexpr std::string_view kPlace = "parse error at line";
  const size_t bracket = what.find("] ");
  if (bracket != std::string_view::npos) what.remove_prefix(bracket + 2);
  const size_t colon = what.find(": ");
  if (what.starts_with(kPlace) && colon != std::string_view::npos) what.remove_prefix(colon + 2);
  return std::string(what);
}

/// Builds the DOM as nlohmann's own handler does, but refuses duplicate keys and deep nesting.
class StrictHandler : public nlohmann::json_sax<json> {
 public:
  explicit StrictHandler(json* out) : out_(out) {}

  bool null() override { return add(nullptr) != nullptr; }
  bool boolean(bool value) override { return add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return add(value) != nullptr;
  }
  bool string(string_t& value) override { return add(std::move(value)) != nullptr; }
  bool binary(binary_t& value) override { return add(std::move(value)) != nullptr; }
  bool start_object(size_t) override { return open(json::object()); }
  bool start_array(size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (stack_.back()->contains(name)) {
      problem_ = fmt::format("duplicate key '{}'", name);
      return false;
    }
    slot_ = &(*stack_.back())[name];
    return true;
  }

  bool parse_error(size_t position, const std::string&, const json::exception& error) override {
    error_offset_ = position > 0 ? position - 1 : 0;
    problem_ = plain_reason(error.what());
    return false;
  }

  const std::string& problem() const { return problem_; }
  /// Where the parser stopped, if it was the parser that refused.
  const std::optional<size_t>& error_offset() const { return error_offset_; }

 private:
  json* add(json value) {
    if (stack_.empty()) {
      *out_ = std::move(value);
      return out_;
    }
    json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool open(json container) {
    if (stack_.size() >= kMaxDepth) {
      problem_ = fmt::format("nesting deeper than {}", kMaxDepth);
      return false;
    }
    // A parent's later growth moves its finished children only: the open ones are always the last.
    stack_.push_back(add(std::move(container)));
    return true;
  }

  bool close() {
    json& done = *stack_.back();
    stack_.pop_back();
    if (done.is_object() && done.size() == 1 && done.contains(kFloatKey)) {
      return resolve_float(done);
    }
    return true;
  }

  bool resolve_float(json& value) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const json& name = value[std::string(kFloatKey)];
    if (name == "Infinity") {
      value = kInfinity;
    } else if (name == "-Infinity") {
      value = -kInfinity;
    } else if (name == "NaN") {
      value = std::numeric_limits<double>::quiet_NaN();
    } else {
      problem_ = fmt::format("key '{}', expected Infinity, -Infinity or NaN, got {}", kFloatKey,
                             describe_json(name));
      return false;
    }
    return true;
  }

  json* out_;
  json* slot_ = nullptr;
  std::vector<json*> stack_;
  std::string problem_;
  std::optional<size_t> error_offset_;
};

}  // namespace

json parse_json(std::string_view text, const std::string& source) {
  const FloatNames readable(text);
  json value;
  StrictHandler handler(&value);
  if (json::sax_parse(readable.text(), &handler)) return value;
  const std::string where = handler.error_offset()
                                ? locate(text, readable.original(*handler.error_offset()), source)
                                : source;
  HEADLENS_FAIL(ConfigError, "[{}] text, expected valid JSON, got {}", where, handler.problem());
}

std::string read_text_file(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  const int reason = errno;
  std::ostringstream text;
  std::error_code ignored;
  const bool is_directory = std::filesystem::is_directory(path, ignored);
  if (file.good() && !is_directory) text << file.rdbuf();
  HEADLENS_CHECK(ConfigError, file.good() && !is_directory,
                 "[{}] file, expected a readable one, got {}", path.string(),
                 is_directory                      ? "a directory"
                 : reason == 0 || reason == ENOENT ? "none"
                                                   : std::strerror(reason));
  return text.str();
}

json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_text_file(path), path.string());
}

std::string describe_json(const json& value) {
  constexpr size_t kMaxExcerpt = 60;
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > kMaxExcerpt) text = text.substr(0, kMaxExcerpt) + "...";
  if (value.is_null()) return text;
  const char* kind = value.is_number_integer() ? "integer" : value.type_name();
  return fmt::format("{} {}", kind, text);
}

JsonFields::JsonFields(json value, std::string where)
    : root_(std::make_shared<const json>(std::move(value))),
      value_(root_.get()),
      where_(std::move(where)),
      record_(std::make_shared<Record>()) {
  HEADLENS_CHECK(ConfigError, value_->is_object(), "[{}] value, expected a JSON object, got {}",
                 where_, describe_json(*value_));
}

JsonFields::JsonFields(std::shared_ptr<const json> root, const json* value, std::string where,
                       std::string prefix, std::shared_ptr<Record> record)
    : root_(std::move(root)),
      value_(value),
      where_(std::move(where)),
      prefix_(std::move(prefix)),
      record_(std::move(record)) {}

const json* JsonFields::peek(std::string_view key) const {
  const auto it = value_->find(key);
  return it == value_->end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::has(std::string_view key) const {
  return peek(key) != nullptr;
}

const json* JsonFields::find(std::string_view key) const {
  record_->read.insert(prefix_ + std::string(key));
  return peek(key);
}

JsonFields JsonFields::object(std::string_view key) const {
  const json* value = peek(key);
  if (value == nullptr || !value->is_object()) fail(key, "object", value);
  const std::string full = prefix_ + std::string(key);
  record_->entered.insert(full);
  return JsonFields(root_, value, where_, full + ".", record_);
}

void JsonFields::ignore(std::initializer_list<std::string_view> keys) const {
  for (const std::string_view key : keys) record_->read.insert(prefix_ + std::string(key));
}

void JsonFields::collect_unread(const json& value, const std::string& prefix,
                                std::vector<std::string>& out) const {
  for (const auto& [key, item] : value.items()) {
    const std::string full = prefix + key;
    if (item.is_null() || record_->read.contains(full)) continue;
    if (record_->entered.contains(full)) {
      collect_unread(item, full + ".", out);
    } else {
      out.push_back(full.substr(prefix_.size()));
    }
  }
}

std::vector<std::string> JsonFields::unread() const {
  std::vector<std::string> out;
  collect_unread(*value_, prefix_, out);
  return out;
}

void JsonFields::check_all_read() const {
  const std::vector<std::string> left = unread();
  HEADLENS_CHECK(ConfigError, left.empty(), "[{}] keys, expected only known ones, got also {}{}",
                 where_, prefix_, fmt::join(left, ", " + prefix_));
}

void JsonFields::fail(std::string_view key, const std::string& expected, const json* got) const {
  HEADLENS_FAIL(ConfigError, "[{}] key '{}{}', expected {}, got {}", where_, prefix_, key, expected,
                got == nullptr ? "nothing" : describe_json(*got));
}

}  // namespace headlens
