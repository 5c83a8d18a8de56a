// headlens/cli: maps drawn with a terminal's characters.
#pragma once

#include <Eigen/Core>
#include <string>
#include <vector>

#include "cli/terminal.h"

namespace headlens::cli {

/// A map as it is to be drawn, [row, key].
struct ViewedMap {
  std::string title;
  Eigen::MatrixXf map;
};

/// The entry of largest size, with its sign, of each block of `block` by `block` entries (those at
/// the far edges may be smaller): a lone peak stays visible however long the prompt is.
Eigen::MatrixXf max_pooled(const Eigen::MatrixXf& map, int64_t row_block, int64_t key_block);

/// The maps side by side where the screen is wide enough, keys across and rows downwards under a
/// margin of their tokens (`row_tokens` and `key_tokens`, one a row and a key), each scaled by its
/// own entry of largest size; then the last row of each as its tokens. Wider maps than the screen
/// are max pooled, which a line says. In colours: dark to bright, or, for a map with negative
/// entries, blue to dark to red; without them by shades.
std::string maps_view(const std::vector<ViewedMap>& maps,
                      const std::vector<std::string>& row_tokens,
                      const std::vector<std::string>& key_tokens, const Screen& screen);

}  // namespace headlens::cli
