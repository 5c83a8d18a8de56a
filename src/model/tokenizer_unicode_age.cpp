// headlens/model: characters that came too late for the Unicode tables of the reference tokenizers.
#include "model/tokenizer_unicode_age.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace headlens {
namespace {

using Range = std::pair<uint32_t, uint32_t>;

// Found by asking `tokenizers` 0.23.3 about every code point. A range may bridge characters of
// other classes. Sorted.
constexpr Range kPunctuation[] = {{0x61D, 0x61D},     {0x9FD, 0xA76},     {0xC77, 0xC84},
                                  {0x1B4E, 0x1B4F},   {0x1B7D, 0x1B7F},   {0x2E43, 0x2E5D},
                                  {0x10D6E, 0x10F89}, {0x113D4, 0x1145D}, {0x11660, 0x116B9},
                                  {0x1183B, 0x11FFF}, {0x12FF1, 0x12FF2}, {0x16D6D, 0x16FE2},
                                  {0x1E5FF, 0x1E95F}};
constexpr Range kMarks[] = {
    {0x7FD, 0x7FD},     {0x897, 0x8D3},     {0x9FE, 0x9FE},     {0xAFA, 0xAFF},
    {0xB55, 0xB55},     {0xC04, 0xC3C},     {0xCF3, 0xD00},     {0xD3B, 0xD3C},
    {0xD81, 0xD81},     {0xEBA, 0xEBA},     {0xECE, 0xECE},     {0x1715, 0x1715},
    {0x180F, 0x180F},   {0x1ABF, 0x1ACE},   {0x1CF7, 0x1CF7},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0xA8FF, 0xA8FF},   {0x10D24, 0x10F85}, {0x11070, 0x11074},
    {0x110C2, 0x110C2}, {0x11145, 0x11146}, {0x111C9, 0x111C9}, {0x111CE, 0x111CF},
    {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x113B8, 0x113E2}, {0x1145E, 0x1145E},
    {0x1182C, 0x11A99}, {0x11D31, 0x1612F}, {0x16F4F, 0x16F4F}, {0x16F7F, 0x16F87},
    {0x16FE4, 0x16FF1}, {0x1CF00, 0x1CF46}, {0x1E08F, 0x1E5EF}};
constexpr Range kDecompositions[] = {{0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},   {0xAB69, 0xAB69},
                                     {0x10781, 0x107BA}, {0x11938, 0x11938}, {0x1E030, 0x1E06D},
                                     {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

template <size_t N>
bool contains(const Range (&ranges)[N], uint32_t c) {
  const auto it = std::find_if(std::begin(ranges), std::end(ranges),
                               [c](const Range& range) { return c <= range.second; });
  return it != std::end(ranges) && c >= it->first;
}

}  // namespace

bool is_late_punctuation(uint32_t c) {
  return contains(kPunctuation, c);
}
bool is_late_mark(uint32_t c) {
  return contains(kMarks, c);
}
bool is_late_decomposition(uint32_t c) {
  return contains(kDecompositions, c);
}

}  // namespace headlens
