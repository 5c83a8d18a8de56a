// headlens/tasks: numbers written in English words.
#include "tasks/english_number.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "model/tokenizer_regex.h"
#include "tasks/python_text.h"

namespace headlens {
namespace {

using Values = std::vector<int64_t>;

constexpr int64_t kThousand = 1'000, kMillion = 1'000'000, kBillion = 1'000'000'000;

const std::map<std::string, int64_t, std::less<>>& word_values() {
  static const std::map<std::string, int64_t, std::less<>> values = {{"zero", 0},
                                                                     {"one", 1},
                                                                     {"two", 2},
                                                                     {"three", 3},
                                                                     {"four", 4},
                                                                     {"five", 5},
                                                                     {"six", 6},
                                                                     {"seven", 7},
                                                                     {"eight", 8},
                                                                     {"nine", 9},
                                                                     {"ten", 10},
                                                                     {"eleven", 11},
                                                                     {"twelve", 12},
                                                                     {"thirteen", 13},
                                                                     {"fourteen", 14},
                                                                     {"fifteen", 15},
                                                                     {"sixteen", 16},
                                                                     {"seventeen", 17},
                                                                     {"eighteen", 18},
                                                                     {"nineteen", 19},
                                                                     {"twenty", 20},
                                                                     {"thirty", 30},
                                                                     {"forty", 40},
                                                                     {"fifty", 50},
                                                                     {"sixty", 60},
                                                                     {"seventy", 70},
                                                                     {"eighty", 80},
                                                                     {"ninety", 90},
                                                                     {"hundred", 100},
                                                                     {"thousand", 1000},
                                                                     {"million", kMillion},
                                                                     {"billion", kBillion}};
  return values;
}

/// A stretch of number words: one that may begin it, any that go on, one that may end it. They
/// differ in which of -teen and -ty may be missing.
const TokenRegex& number_pattern() {
  static const TokenRegex pattern = [] {
    const std::string small = "zero|one|two|three|four|five";
    const std::string stem = "(?:twen|thir|for|fif|six|seven|nine)";
    const std::string large =
        "ten|eleven|twelve|fourteen|hundred|thousand|million|billion|trillion";
    const auto word = [&](const char* stem_end, const char* eight_end) {
      return small + "|" + stem + stem_end + "|eight" + eight_end + "|" + large;
    };
    const std::string first = word("(?:teen|ty)", "(?:|een|y)");
    const std::string next = word("(?:|teen|ty)", "(?:een|y)") + R"(|[^\S\r\n]|,|and|&)";
    const std::string last = word("(?:teen|ty)", "(?:een|y)");
    return TokenRegex::from_pcre2("(?:(?:" + first + ")(?:" + next + ")+)?(?:" + last + ")",
                                  "english number");
  }();
  return pattern;
}

/// Up to a million, say: "two hundred twenty three", by how many words there are. Nothing for none.
std::optional<int64_t> value_of(std::span<const int64_t> words) {
  if (words.empty()) return std::nullopt;
  const bool hundred = std::find(words.begin(), words.end(), 100) != words.end();
  if (words.size() == 4) return words[0] * words[1] + words[2] + words[3];
  if (words.size() == 3) return words[0] * words[1] + words[2];
  if (words.size() == 2) return hundred ? words[0] * words[1] : words[0] + words[1];
  return words[0];
}

/// Words with at most one each of billion, million and thousand, in this order.
bool is_well_formed(const Values& words) {
  std::ptrdiff_t before = -1;
  for (const int64_t unit : {kBillion, kMillion, kThousand}) {
    if (std::count(words.begin(), words.end(), unit) > 1) return false;
    const auto at = std::find(words.begin(), words.end(), unit);
    if (at == words.end()) continue;
    if (at - words.begin() < before) return false;
    before = at - words.begin();
  }
  return true;
}

std::optional<int64_t> total_of(const Values& words) {
  if (words.empty() || !is_well_formed(words)) return std::nullopt;
  if (words.size() == 1) return words[0];
  int64_t total = 0;
  std::span<const int64_t> rest = words, after_larger;  // words behind the unit before the last
  for (const int64_t unit : {kBillion, kMillion, kThousand}) {
    const auto at = std::find(rest.begin(), rest.end(), unit);
    if (at == rest.end()) continue;
    const size_t count = static_cast<size_t>(at - rest.begin());
    const std::optional<int64_t> times = value_of(rest.first(count));
    if (!times) return std::nullopt;
    total += *times * unit;
    after_larger = rest.size() < words.size() ? rest : std::span<const int64_t>();
    rest = rest.subspan(count + 1);
  }
  // Where a unit is the last word, what stands behind the larger one counts again, as units.
  if (rest.empty()) rest = after_larger;
  return total + value_of(rest).value_or(0);
}

}  // namespace

std::optional<std::string> english_number(std::string_view text) {
  std::vector<Piece> pieces;
  number_pattern().cut(text, pieces);
  const auto match =
      std::find_if(pieces.begin(), pieces.end(), [](const Piece& piece) { return piece.match; });
  if (match == pieces.end()) return std::nullopt;
  Values words;
  for (const std::string& word :
       python_split(text.substr(match->begin, match->end - match->begin))) {
    const auto known = word_values().find(word);
    if (known != word_values().end()) words.push_back(known->second);
  }
  const std::optional<int64_t> total = total_of(words);
  return total ? std::optional(std::to_string(*total)) : std::nullopt;
}

}  // namespace headlens
