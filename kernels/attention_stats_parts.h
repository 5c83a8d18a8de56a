// headlens/kernels: the passes that launch_attention_stats() is made of.
#pragma once

#include "attention_stats.h"

namespace headlens {

/// Segment ids by tiles of keys, for kernels that meet a tile at a time. A code is the id where all
/// keys of a tile share it (-1: none); where one run ends and another begins, kCutTile with the
/// place and both ids; else kMixedTile + 256 * lowest id + highest id.
struct SegmentTiles {
  int16_t* ids;  // [lists, padded], -1 past the last key
  int* codes;    // [lists, tiles]; null without segments
  int padded, tiles;
  int lists;  // 1, or one for each batch row
};
constexpr int kNoSegment = -1, kMixedTile = 1 << 20, kCutTile = 1 << 30;

/// Where the tiles of `tile_keys` keys lie in the workspace.
SegmentTiles segment_tiles_of(const AttentionStatsParams& params, int tile_keys);
size_t segment_tiles_bytes(const AttentionStatsParams& params);
cudaError_t launch_segment_tiles(const AttentionStatsParams& params, const SegmentTiles& tiles,
                                 int tile_keys, cudaStream_t stream);

/// All rows at once on Hopper; gives lse, entropy, max, argmax and segment masses.
bool attention_stats_fits_wgmma(const AttentionStatsParams& params);
cudaError_t launch_attention_stats_wgmma(const AttentionStatsParams& params, cudaStream_t stream);

/// Chosen rows, or all, on every device: blocks of rows, and splits of the keys where the blocks
/// alone would not fill the device; a split's figures wait in the workspace.
struct RowsPlan {
  bool figures;    // whether lse, entropy, max and argmax are wanted besides the rest
  bool even;       // rows of q and k begin at multiples of 16 bytes
  int group;       // query heads of a block, which share their keys
  int block_rows;  // rows of a block: 16 or 64
  int row_blocks;  // blocks of a map
  int blocks;      // of all maps
  int splits;
  int64_t total;  // rows of the output
  unsigned char* workspace;
};
RowsPlan rows_plan(const AttentionStatsParams& params, bool figures, void* workspace);
size_t rows_workspace(const AttentionStatsParams& params);
cudaError_t launch_attention_stats_rows(const AttentionStatsParams& params, const RowsPlan& plan,
                                        cudaStream_t stream);

/// Masses on chosen keys, for rows whose lse is known.
cudaError_t launch_attention_stats_keys(const AttentionStatsParams& params, cudaStream_t stream);

}  // namespace headlens
