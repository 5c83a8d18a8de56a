// headlens/kernels: figures of map rows, for softmax and state-space maps alike.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace headlens {

/// Which rows and heads, and which figures besides those that every row gets.
struct MapStatsRequest {
  at::Tensor rows{};   ///< int64 [batch, row], query index in this forward; undefined: every query
  at::Tensor heads{};  ///< int64 [n]; undefined: all
  at::Tensor segments{};           ///< int64 [batch or 1, key]: segment id of each key, -1 for none
  int64_t num_segments = 0;        ///< at most 256
  std::vector<int64_t> offsets{};  ///< mass on the key that far before the query; at most 8
  at::Tensor key_sets{};           ///< int64 [batch, row, set, n]: keys of each row's sets, -1 pads
  int64_t top_k = 0;               ///< at most 16
};

/// Per-row figures of P: the pattern itself (softmax) or |M_ij| / sum_j |M_ij| (SSM);
/// docs/metrics.md. At least float32.
struct MapStats {
  at::Tensor entropy;   ///< [batch, head, row] nats, 0 ln 0 = 0
  at::Tensor row_mass;  ///< [batch, head, row] sum_j |M_ij| before the normalisation (softmax: 1)
  at::Tensor max;       ///< [batch, head, row] largest P
  at::Tensor argmax;    ///< [batch, head, row] int64 key of it, the first where several are equal
  /// P and int64 keys in falling order, [batch, head, row, top_k]; past the row's last key padded
  /// with 0 and -1. Undefined for top_k = 0.
  at::Tensor top_values;
  at::Tensor top_keys;      ///< int64 keys of top_values
  at::Tensor segment_mass;  ///< [batch, head, row, segment]; undefined without segments
  at::Tensor offset_mass;   ///< [batch, head, row, offset]; 0 where the key is before the first
  at::Tensor set_mass;      ///< [batch, head, row, set]
  /// ln sum_j of what P was normalised by: the scores' logsumexp (softmax) or ln row_mass.
  /// Undefined where only P is known (an edited map).
  at::Tensor log_mass;
};

/// The figures of rows that are at hand: map_rows [batch, head, row, key] (softmax: P; SSM: M, of
/// which P is made), `sees` bool [batch or 1, 1, row, key] the keys a row sees. `request.rows` and
/// `request.key_sets` are those of these rows, `first_query` the key at query 0's own position.
/// Differentiable in the figures that are sums. The readable reference of the streaming kernels.
MapStats map_row_stats(const at::Tensor& map_rows, bool is_softmax, const at::Tensor& sees,
                       const MapStatsRequest& request, int64_t first_query);

/// Stats of blocks of rows (dim 2) or of heads (dim 1) put one after another.
MapStats join_stats(const std::vector<MapStats>& parts, int64_t dim);

/// Means over rows of the figures that have a mean, [batch, head, ..] in float64; the others are
/// undefined.
MapStats mean_over_rows(const MapStats& stats);

/// Row-normalised |M| (or the pattern itself): [.., key] -> [.., key]; a zero row stays zero.
at::Tensor normalized_rows(const at::Tensor& rows, bool is_softmax);

}  // namespace headlens
