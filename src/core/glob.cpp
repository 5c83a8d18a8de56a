// headlens/core: shell-style matching of names.
#include "core/glob.h"

namespace headlens {
namespace {

/// Length of the bracket set that starts at `pattern[0] == '['`, 0 if it is never closed.
size_t set_length(std::string_view pattern) {
  size_t i = 1;
  if (i < pattern.size() && pattern[i] == '!') ++i;
  if (i < pattern.size() && pattern[i] == ']') ++i;  // a ']' in first place is a member
  const size_t close = pattern.find(']', i);
  return close == std::string_view::npos ? 0 : close + 1;
}

/// Whether `c` is in `set`, which is the bracket set with its brackets.
bool in_set(std::string_view set, char c) {
  std::string_view members = set.substr(1, set.size() - 2);
  const bool negated = members.front() == '!';
  if (negated) members.remove_prefix(1);
  bool found = false;
  for (size_t i = 0; i < members.size(); ++i) {
    if (i + 2 < members.size() && members[i + 1] == '-') {
      found = found || (members[i] <= c && c <= members[i + 2]);
      i += 2;
    } else {
      found = found || members[i] == c;
    }
  }
  return found != negated;
}

/// Length of the pattern's first element if that one element matches `c`, else 0.
size_t match_one(std::string_view pattern, char c) {
  if (pattern.empty()) return 0;
  if (pattern[0] == '?') return 1;
  if (pattern[0] == '[') {
    const size_t length = set_length(pattern);
    if (length > 0) return in_set(pattern.substr(0, length), c) ? length : 0;
  }
  return pattern[0] == c ? 1 : 0;
}

}  // namespace

bool glob_match(std::string_view pattern, std::string_view text) {
  constexpr size_t kNone = std::string_view::npos;
  size_t p = 0;
  size_t t = 0;
  size_t after_star = kNone;  // where to go on in the pattern when the last '*' takes one more
  size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      after_star = ++p;
      star_text = t;
    } else if (const size_t length = match_one(pattern.substr(p), text[t]); length > 0) {
      p += length;
      ++t;
    } else if (after_star != kNone) {
      p = after_star;
      t = ++star_text;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == kNone;
}

}  // namespace headlens
