// headlens/model: Oniguruma's regular expressions rewritten in PCRE2's syntax.
#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "core/check.h"
#include "model/tokenizer_regex.h"
#include "model/tokenizer_regex_classes.h"

namespace headlens {
namespace {

constexpr int kMaxNesting = 100;
std::string bracket(std::string_view members) {
  return "[" + std::string(members) + "]";
}
std::string not_bracket(std::string_view members) {
  return "[^" + std::string(members) + "]";
}

/// A set of characters under construction: what fits between brackets, and what does not.
struct CharSet {
  std::string members;
  std::vector<std::string> others;  // patterns of one character each

  bool empty() const { return members.empty() && others.empty(); }
  /// A pattern for one character of the set.
  std::string pattern() const {
    if (others.empty()) return bracket(members);
    std::string out = "(?:";
    if (!members.empty()) out += bracket(members) + "|";
    for (size_t i = 0; i < others.size(); ++i) out += (i > 0 ? "|" : "") + others[i];
    return out + ")";
  }
};

class Translator {
 public:
  Translator(std::string_view in, const std::string& where) : in_(in), where_(where) {}

  std::string run() {
    groups_.push_back({0, 0});
    while (i_ < in_.size()) step();
    HEADLENS_CHECK(ConfigError, groups_.size() == 1, "[{}] regular expression '{}', expected ')'",
                   where_, in_);
    close_options();
    return std::move(out_);
  }

 private:
  struct Group {
    size_t start;      // where it opens in out_
    int open_options;  // "(?i)" inside it, each an open "(?i:" until the group ends
  };

  [[noreturn]] void refuse(std::string_view what) const {
    HEADLENS_FAIL(ConfigError, "[{}] regular expression '{}', {} at byte {} is not handled", where_,
                  in_, what, i_);
  }
  char peek(size_t ahead = 0) const { return i_ + ahead < in_.size() ? in_[i_ + ahead] : '\0'; }
  bool take(std::string_view text) {
    if (!in_.substr(i_).starts_with(text)) return false;
    i_ += text.size();
    return true;
  }

  void step() {
    const char c = peek();
    if (c == '(') return open_group();
    if (c == ')') return close_group();
    if (c == '{') return interval();
    if (std::string_view("*+?|^$").find(c) != std::string_view::npos) {
      out_ += in_[i_++];
      return;
    }
    atom_ = out_.size();
    if (c == '[') {
      out_ += char_class(0);
    } else if (c == '\\') {
      out_ += lone_escape();
    } else {
      copy_char(out_);
    }
  }

  void copy_char(std::string& out) {
    do {
      out += in_[i_++];
    } while (i_ < in_.size() && (static_cast<unsigned char>(in_[i_]) & 0xC0) == 0x80);
  }

  void open_group() {
    const size_t start = out_.size();
    if (peek(1) == '*') refuse("'(*'");  // PCRE2's own settings and verbs
    if (in_.substr(i_).starts_with("(?#")) {
      i_ = std::min(in_.find(')', i_), in_.size() - 1) + 1;
      return;
    }
    for (const std::string_view plain : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
      if (take(plain)) {
        groups_.push_back({start, 0});
        out_ += plain;
        return;
      }
    }
    if (take("(?<")) {
      out_ += "(?<";
      groups_.push_back({start, 0});
    } else if (take("(?")) {
      options(start);
    } else {
      out_ += in_[i_++];
      groups_.push_back({start, 0});
    }
  }

  /// "(?im-x:" or "(?i)", which in Ruby holds to the end of the group, alternatives included.
  void options(size_t start) {
    out_ += "(?";
    while (std::string_view("imx-").find(peek()) != std::string_view::npos && i_ < in_.size()) {
      out_ += peek() == 'm' ? 's' : peek();  // Ruby's m lets the dot match newlines
      ++i_;
    }
    if (peek() == ':') {
      groups_.push_back({start, 0});
    } else if (peek() == ')') {
      ++groups_.back().open_options;
    } else {
      refuse(fmt::format("'(?{}'", peek()));
    }
    ++i_;
    out_ += ':';
  }

  void close_options() { out_.append(static_cast<size_t>(groups_.back().open_options), ')'); }

  void close_group() {
    HEADLENS_CHECK(ConfigError, groups_.size() > 1,
                   "[{}] regular expression '{}', expected '(' before byte {}", where_, in_, i_);
    close_options();
    atom_ = groups_.back().start;
    groups_.pop_back();
    out_ += in_[i_++];
  }

  /// "{n,m}". What follows means something else than in PCRE2: "{n,m}+" repeats the repetition,
  /// "{n}?" makes it optional.
  void interval() {
    const size_t close = in_.find('}', i_);
    const std::string_view body =
        close == std::string_view::npos ? "" : in_.substr(i_ + 1, close - i_ - 1);
    const bool numeric = body.find_first_not_of("0123456789,") == std::string_view::npos;
    if (!numeric || body.empty() || body == "," || std::count(body.begin(), body.end(), ',') > 1) {
      atom_ = out_.size();
      out_ += "\\{";
      ++i_;
      return;
    }
    i_ = close + 1;
    const bool exact = body.find(',') == std::string_view::npos;
    const bool wrap = peek() == '+' || (exact && peek() == '?');
    if (wrap) out_.insert(atom_, "(?:");
    out_ += fmt::format("{{{}{}}}", body.starts_with(',') ? "0" : "", body);
    if (wrap) out_ += ')';
  }

  /// "\p{Name}", "\P{Name}", "\p{^Name}" behind the backslash: its members, and whether negated.
  std::pair<std::string, bool> property() {
    bool negated = in_[i_++] == 'P';
    const size_t close = in_.find('}', i_);
    if (peek() != '{' || close == std::string_view::npos) refuse("a property without braces");
    std::string_view name = in_.substr(i_ + 1, close - i_ - 1);
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    i_ = close + 1;
    return {property_class(name, where_), negated};
  }

  /// The class an escape names ("\s", "\D", "\p{..}"), with whether it is negated; nothing if it
  /// is not a class. `word` is what \w stands for here.
  std::optional<std::pair<std::string, bool>> class_escape(std::string_view word) {
    const char c = peek();
    if (c == 'p' || c == 'P') return property();
    const std::string_view members = c == 's' || c == 'S'   ? kSpaceClass
                                     : c == 'd' || c == 'D' ? kDigitClass
                                     : c == 'w' || c == 'W' ? word
                                     : c == 'h' || c == 'H' ? kHexClass
                                                            : "";
    if (members.empty()) return std::nullopt;
    ++i_;
    return std::pair(std::string(members), c < 'a');
  }

  std::string lone_escape() {
    ++i_;
    if (const auto known = class_escape(kLoneWordClass)) {
      return known->second ? not_bracket(known->first) : bracket(known->first);
    }
    const char c = peek();
    if (c == 'b' || c == 'B') {
      ++i_;
      const std::string edge =
          fmt::format("(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}])", kLoneWordClass);
      return (c == 'b' ? "(?:" : "(?!") + edge + ")";
    }
    if (std::string_view("AzZRk123456789").find(c) != std::string_view::npos && c != '\0') {
      ++i_;
      return std::string("\\") + c;
    }
    return char_escape();
  }

  /// An escape that stands for one character, inside or outside brackets.
  std::string char_escape() {
    const char c = peek();
    if (c == '\0') refuse("a final backslash");
    if (c == 'x' || c == 'u') return hex_escape();
    if (c == 'v') {
      ++i_;
      return "\\x0b";
    }
    if (std::string_view("ntrfae0").find(c) != std::string_view::npos) {
      ++i_;
      return std::string("\\") + c;
    }
    if (isalnum(static_cast<unsigned char>(c)) != 0) refuse(fmt::format("'\\{}'", c));
    std::string out = static_cast<unsigned char>(c) < 0x80 ? "\\" : "";
    copy_char(out);
    return out;
  }

  std::string hex_escape() {
    const bool braces = peek(1) == '{';
    const size_t start = i_ + (braces ? 2 : 1);
    size_t end = start;
    const size_t most = braces ? 8 : peek() == 'u' ? 4 : 2;
    while (end < in_.size() && end - start < most && isxdigit(in_[end]) != 0) ++end;
    const std::string_view digits = in_.substr(start, end - start);
    const bool closed = !braces || (end < in_.size() && in_[end] == '}');
    // "\xE2" is a raw byte of UTF-8 to Oniguruma.
    const bool raw = !braces && peek() == 'x' && digits.size() == 2 && digits[0] > '7';
    if (digits.empty() || !closed || raw || (peek() == 'u' && (braces || digits.size() != 4))) {
      refuse("this hexadecimal escape");
    }
    i_ = end + (braces ? 1 : 0);
    return fmt::format("\\x{{{}}}", digits);
  }

  /// A bracket expression, with Ruby's nested sets, '&&' and POSIX names.
  std::string char_class(int depth) {
    if (depth > kMaxNesting) refuse("nesting this deep");
    ++i_;
    const bool negated = take("^");
    std::string intersection;  // lookaheads of the sets before each '&&'
    CharSet set;
    if (take("]")) set.members += "\\]";
    while (peek() != ']') {
      if (i_ >= in_.size()) refuse("an unclosed '['");
      if (take("&&")) {
        intersection += "(?=" + set.pattern() + ")";
        set = {};
      } else {
        class_item(set, depth);
      }
    }
    ++i_;
    if (set.empty()) refuse("an empty '[]'");
    if (intersection.empty() && set.others.empty()) {
      return negated ? not_bracket(set.members) : set.pattern();
    }
    const std::string one = intersection + set.pattern();
    return negated ? "(?:(?!" + one + ")(?s:.))" : "(?:" + one + ")";
  }

  void class_item(CharSet& set, int depth) {
    const char c = peek();
    if (c == '[' && peek(1) == ':') {
      posix_item(set);
    } else if (c == '[') {
      add_nested(set, char_class(depth + 1));
    } else if (c == '\\') {
      ++i_;
      if (const auto known = class_escape(kWordClass)) {
        add_class(set, known->first, known->second);
      } else if (take("b")) {
        set.members += "\\x08";
      } else {
        set.members += char_escape();
      }
    } else if (c == '^') {
      set.members += "\\^";
      ++i_;
    } else {
      copy_char(set.members);
    }
  }

  static void add_class(CharSet& set, const std::string& members, bool negated) {
    const bool one_property =
        members.starts_with("\\p{") && members.find('}') + 1 == members.size();
    if (!negated) {
      set.members += members;
    } else if (one_property) {
      set.members += "\\P" + members.substr(2);
    } else {
      set.others.push_back(not_bracket(members));
    }
  }

  /// A nested set joins the outer brackets if it is a plain one.
  static void add_nested(CharSet& set, const std::string& pattern) {
    const bool plain = pattern.starts_with('[') && pattern[1] != '^' && pattern[1] != '-' &&
                       pattern[pattern.size() - 2] != '-';
    if (plain) {
      set.members += pattern.substr(1, pattern.size() - 2);
    } else {
      set.others.push_back(pattern);
    }
  }

  void posix_item(CharSet& set) {
    const size_t close = in_.find(":]", i_);
    if (close == std::string_view::npos) refuse("an unclosed '[:'");
    std::string_view name = in_.substr(i_ + 2, close - i_ - 2);
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    const std::string_view members = posix_class(name);
    if (members.empty()) refuse(fmt::format("'[:{}:]'", name));
    i_ = close + 2;
    add_class(set, std::string(members), negated);
  }

  std::string_view in_;
  const std::string& where_;
  size_t i_ = 0;
  std::string out_;
  size_t atom_ = 0;  // where the last thing that can be repeated starts in out_
  std::vector<Group> groups_;
};

}  // namespace

std::string translate_regex(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace headlens
