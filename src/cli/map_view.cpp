// headlens/cli: maps drawn with a terminal's characters.
#include "cli/map_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace headlens::cli {
namespace {

constexpr int64_t kMargin = 10;    // columns of the tokens beside the rows
constexpr int64_t kGap = 2;        // between maps
constexpr int64_t kWideRows = 40;  // up to so many rows an entry is two columns wide
constexpr int kLevels = 4;         // of shades

/// By what signs a size is shown, faint to strong.
using Shades = std::array<const char*, kLevels + 1>;
constexpr Shades kBlocks = {" ", "░", "▒", "▓", "█"}, kBlocksBelow = {" ", "-", "~", "=", "≡"};
constexpr Shades kAscii = {" ", ".", "+", "*", "#"}, kAsciiBelow = {" ", "-", "~", "=", "%"};

/// How all maps of a view are laid out.
struct Layout {
  int64_t cell = 1;       // columns of an entry
  bool halves = false;    // two rows a line, by half blocks
  int64_t row_block = 1;  // rows and keys that became one
  int64_t key_block = 1;
  int64_t rows = 0, keys = 0;  // after pooling
  int64_t across = 1;          // maps side by side
};

Layout layout_of(int64_t rows, int64_t keys, size_t maps, const Screen& screen) {
  const int64_t room = std::max<int64_t>(screen.width - kMargin - 1, 1);
  Layout out;
  out.cell = 2 * keys <= room && rows <= kWideRows ? 2 : 1;
  out.halves = out.cell == 1 && screen.color && screen.unicode;
  out.key_block = (keys + room - 1) / room;
  if (rows >= keys) out.row_block = out.key_block;  // chosen rows are kept apart
  out.rows = (rows + out.row_block - 1) / out.row_block;
  out.keys = (keys + out.key_block - 1) / out.key_block;
  const int64_t panel = out.keys * out.cell + kGap;
  out.across = std::clamp<int64_t>((room + kGap) / panel, 1, static_cast<int64_t>(maps));
  return out;
}

/// -1 to 1: an entry against the largest of its map.
float share(float value, float largest) {
  return largest > 0 && std::isfinite(value) ? value / largest : 0;
}

Rgb blend(Rgb from, Rgb to, float at) {
  const auto mix = [at](int a, int b) {
    return static_cast<int>(std::lround(static_cast<float>(a) + at * static_cast<float>(b - a)));
  };
  return {mix(from.red, to.red), mix(from.green, to.green), mix(from.blue, to.blue)};
}

/// Dark in the middle, so that both ends stand out on any ground.
Rgb colour_of(float part, bool has_negative) {
  constexpr Rgb kNothing = {34, 34, 40}, kBright = {255, 214, 90}, kRed = {255, 96, 64},
                kBlue = {72, 148, 255};
  const float strength = std::sqrt(std::min(std::abs(part), 1.0F));  // faint entries show too
  if (part < 0) return blend(kNothing, kBlue, strength);
  return blend(kNothing, has_negative ? kRed : kBright, strength);
}

const char* shade_of(float part, bool unicode) {
  const int level = static_cast<int>(std::ceil(std::min(std::abs(part), 1.0F) * kLevels - 0.2F));
  const auto at = static_cast<size_t>(std::clamp(level, 0, kLevels));
  if (part < 0) return (unicode ? kBlocksBelow : kAsciiBelow)[at];
  return (unicode ? kBlocks : kAscii)[at];
}

/// A map scaled, as it is drawn.
struct Panel {
  std::string title;
  Eigen::MatrixXf map;  // pooled
  float largest = 0;
  bool has_negative = false;
  Eigen::RowVectorXf last;  // of the whole map
};

Panel panel_of(const ViewedMap& viewed, const Layout& layout) {
  Panel panel;
  panel.title = viewed.title;
  panel.map = max_pooled(viewed.map, layout.row_block, layout.key_block);
  panel.largest = panel.map.size() > 0 ? panel.map.cwiseAbs().maxCoeff() : 0;
  panel.has_negative = panel.map.size() > 0 && panel.map.minCoeff() < 0;
  panel.last = viewed.map.row(viewed.map.rows() - 1);
  return panel;
}

std::string entry_text(const Panel& panel, int64_t row, int64_t key, const Layout& layout,
                       const Screen& screen) {
  const auto part = [&](int64_t r) {
    return r < layout.rows ? share(panel.map(r, key), panel.largest) : 0.0F;
  };
  if (!screen.color) {
    std::string text;
    for (int64_t i = 0; i < layout.cell; ++i) text += shade_of(part(row), screen.unicode);
    return text;
  }
  const Rgb upper = colour_of(part(row), panel.has_negative);
  if (!layout.halves) return painted(upper, upper, layout.cell == 2 ? "  " : " ", screen);
  return painted(upper, colour_of(part(row + 1), panel.has_negative), "▀", screen);
}

std::string margin_text(const std::vector<std::string>& tokens, int64_t row, const Layout& layout) {
  std::string token = tokens[static_cast<size_t>(row * layout.row_block)];
  std::replace_if(
      token.begin(), token.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return fitted(token, kMargin) + " ";
}

std::string panels_text(const std::vector<Panel>& panels, size_t begin, size_t end,
                        const std::vector<std::string>& row_tokens, const Layout& layout,
                        const Screen& screen) {
  const int64_t width = layout.keys * layout.cell;
  const std::string gap(kGap, ' ');
  std::string text(kMargin + 1, ' ');
  for (size_t p = begin; p < end; ++p) {
    // A lone map has the rest of the line for its title.
    text += end - begin == 1 ? panels[p].title : fitted(panels[p].title, width) + gap;
  }
  text += "\n";
  for (int64_t row = 0; row < layout.rows; row += layout.halves ? 2 : 1) {
    text += margin_text(row_tokens, row, layout);
    for (size_t p = begin; p < end; ++p) {
      for (int64_t key = 0; key < layout.keys; ++key) {
        text += entry_text(panels[p], row, key, layout, screen);
      }
      if (p + 1 < end) text += gap;
    }
    text += "\n";
  }
  return text;
}

/// The tokens, each by the weight that the last row gives it.
std::string last_row_text(const Panel& panel, const std::vector<std::string>& tokens,
                          const Screen& screen) {
  const float largest = panel.last.cwiseAbs().maxCoeff();
  std::string text;
  int64_t used = 0;
  for (size_t k = 0; k < tokens.size(); ++k) {
    const float part = share(panel.last(static_cast<Eigen::Index>(k)), largest);
    std::string token = tokens[k];
    std::replace_if(
        token.begin(), token.end(), [](unsigned char c) { return c <= ' '; }, ' ');
    const int64_t width = display_width(token) + (screen.color ? 1 : 2);
    if (used + width > screen.width && used > 0) text += "\n", used = 0;
    used += width;
    const Rgb ground = colour_of(part, panel.has_negative);
    const bool bright = ground.red + ground.green > 330;
    const Rgb ink = bright ? Rgb{20, 20, 20} : Rgb{235, 235, 235};
    text += screen.color ? painted(ink, ground, token, screen) + " "
                         : token + shade_of(part, screen.unicode) + " ";
  }
  return text + "\n";
}

std::string pooling_line(const Layout& layout) {
  if (layout.key_block == 1) return {};
  return fmt::format(
      "each entry is the largest of {} rows by {} keys, to fit the width (--out keeps them all)\n",
      layout.row_block, layout.key_block);
}

}  // namespace

Eigen::MatrixXf max_pooled(const Eigen::MatrixXf& map, int64_t row_block, int64_t key_block) {
  const Eigen::Index rows = (map.rows() + row_block - 1) / row_block;
  const Eigen::Index keys = (map.cols() + key_block - 1) / key_block;
  Eigen::MatrixXf out = Eigen::MatrixXf::Zero(rows, keys);
  for (Eigen::Index k = 0; k < map.cols(); ++k) {
    for (Eigen::Index r = 0; r < map.rows(); ++r) {
      float& best = out(r / row_block, k / key_block);
      if (std::abs(map(r, k)) > std::abs(best)) best = map(r, k);
    }
  }
  return out;
}

std::string maps_view(const std::vector<ViewedMap>& maps,
                      const std::vector<std::string>& row_tokens,
                      const std::vector<std::string>& key_tokens, const Screen& screen) {
  const Layout layout = layout_of(static_cast<int64_t>(row_tokens.size()),
                                  static_cast<int64_t>(key_tokens.size()), maps.size(), screen);
  std::vector<Panel> panels;
  for (const ViewedMap& map : maps) panels.push_back(panel_of(map, layout));
  std::string text;
  const auto across = static_cast<size_t>(layout.across);
  for (size_t begin = 0; begin < panels.size(); begin += across) {
    const size_t end = std::min(begin + across, panels.size());
    text += panels_text(panels, begin, end, row_tokens, layout, screen) + "\n";
  }
  text += pooling_line(layout);
  for (const Panel& panel : panels) {
    text += fmt::format("last row of {}\n", panel.title);
    text += last_row_text(panel, key_tokens, screen);
  }
  return text;
}

}  // namespace headlens::cli
