// headlens/cli: what stdout can show: colours, letters beyond ASCII, and how wide it is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace headlens::cli {

struct Screen {
  bool color = false;
  bool true_color = false;  // 24-bit colours rather than 256
  bool unicode = false;     // the locale is UTF-8
  int64_t width = 80;       // columns
};

/// What a piece of text is, by which it is coloured.
enum class Ink { None, Strong, Faint, Gather, Aggregate, Both, Good, Bad };

/// --color: "auto" (on a terminal, unless NO_COLOR is set or TERM is dumb), "always" or "never".
void choose_color(const std::string& word);

/// As the environment and --color have it now. Width: of the terminal, else COLUMNS, else 80.
Screen screen();

/// The text in its colour, where colours are shown; else as it is.
std::string painted(Ink ink, const std::string& text);

/// One cell in this colour on that one, 0 to 255 each of red, green, blue.
struct Rgb {
  int red = 0, green = 0, blue = 0;
};
std::string painted(Rgb ink, Rgb ground, std::string_view text, const Screen& screen);

/// Columns that UTF-8 text takes on a terminal (wide letters two, combining marks none).
int64_t display_width(std::string_view text);

/// `width` columns: cut, or filled with blanks behind.
std::string fitted(std::string_view text, int64_t width);

}  // namespace headlens::cli
