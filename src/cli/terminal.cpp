// headlens/cli: what stdout can show: colours, letters beyond ASCII, and how wide it is.
#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace headlens::cli {
namespace {

constexpr int64_t kNarrowest = 20, kWidest = 1000;

std::string& color_choice() {
  static std::string word = "auto";  // set once, before any command runs
  return word;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool shows_color(bool terminal) {
  if (color_choice() != "auto") return color_choice() == "always";
  return terminal && variable("NO_COLOR").empty() && variable("TERM") != "dumb";
}

/// As setlocale chooses: LC_ALL before LC_CTYPE before LANG.
bool is_utf8_locale() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    std::string locale = variable(name);
    if (locale.empty()) continue;
    std::transform(locale.begin(), locale.end(), locale.begin(), ::tolower);
    return locale.find("utf-8") != std::string::npos || locale.find("utf8") != std::string::npos;
  }
  return false;
}

int64_t columns(bool terminal) {
  winsize size = {};
  int64_t width = 0;
  if (terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) width = size.ws_col;
  const std::string told = variable("COLUMNS");
  if (width == 0) std::from_chars(told.data(), told.data() + told.size(), width);
  return width == 0 ? Screen{}.width : std::clamp(width, kNarrowest, kWidest);
}

/// Bright enough on dark grounds, dark enough on bright ones.
const char* escape_of(Ink ink) {
  switch (ink) {
    case Ink::Strong:
      return "\x1b[1m";
    case Ink::Faint:
      return "\x1b[2m";
    case Ink::Gather:
      return "\x1b[34m";
    case Ink::Aggregate:
      return "\x1b[33m";
    case Ink::Both:
      return "\x1b[35m";
    case Ink::Good:
      return "\x1b[32m";
    case Ink::Bad:
      return "\x1b[31m";
    case Ink::None:
      break;
  }
  return "";
}

/// The nearest of the 6 x 6 x 6 cube of a terminal with 256 colours.
int of_256(Rgb c) {
  const auto step = [](int v) { return v < 48 ? 0 : v < 115 ? 1 : (v - 35) / 40; };
  return 16 + 36 * step(c.red) + 6 * step(c.green) + step(c.blue);
}

std::string rgb_code(int layer, Rgb c, bool true_color) {
  return true_color ? fmt::format("{};2;{};{};{}", layer, c.red, c.green, c.blue)
                    : fmt::format("{};5;{}", layer, of_256(c));
}

}  // namespace

void choose_color(const std::string& word) {
  color_choice() = word;
}

Screen screen() {
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  const std::string depth = variable("COLORTERM");
  return {shows_color(terminal), depth == "truecolor" || depth == "24bit", is_utf8_locale(),
          columns(terminal)};
}

std::string painted(Ink ink, const std::string& text) {
  if (ink == Ink::None || text.empty() || !screen().color) return text;
  return escape_of(ink) + text + "\x1b[0m";
}

std::string painted(Rgb ink, Rgb ground, std::string_view text, const Screen& screen) {
  return fmt::format("\x1b[{};{}m{}\x1b[0m", rgb_code(38, ink, screen.true_color),
                     rgb_code(48, ground, screen.true_color), text);
}

int64_t display_width(std::string_view text) {
  int64_t width = 0;
  while (!text.empty()) {
    utf8proc_int32_t letter = 0;
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
    const auto size = static_cast<utf8proc_ssize_t>(text.size());
    const utf8proc_ssize_t used = utf8proc_iterate(bytes, size, &letter);
    width += used < 1 ? 1 : utf8proc_charwidth(letter);
    text.remove_prefix(static_cast<size_t>(std::max<utf8proc_ssize_t>(used, 1)));
  }
  return width;
}

std::string fitted(std::string_view text, int64_t width) {
  size_t end = 0;
  int64_t taken = 0;
  while (end < text.size()) {
    size_t next = end + 1;
    while (next < text.size() && (static_cast<unsigned char>(text[next]) & 0xC0) == 0x80) ++next;
    const int64_t letter = display_width(text.substr(end, next - end));
    if (taken + letter > width) break;
    taken += letter;
    end = next;
  }
  return std::string(text.substr(0, end)) + std::string(static_cast<size_t>(width - taken), ' ');
}

}  // namespace headlens::cli
