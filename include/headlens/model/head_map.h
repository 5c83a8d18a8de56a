// headlens/model: one map type for softmax attention and state-space heads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/kernels/attention.h"
#include "headlens/kernels/map_stats.h"
#include "headlens/model/config.h"

namespace headlens {

/// Where a block of map rows stands, for custom edits.
struct MapBlock {
  Tensor rows;                 ///< [batch, row] int64, query index within this forward
  std::vector<int64_t> heads;  ///< which head each entry of the head axis is
  int64_t keys;                ///< of the map
};

/// A change of chosen map entries: M_ij with head in `heads`, i in `rows`, j in `keys`, j at or
/// below the diagonal. Edits that renormalize act first, before the softmax; the others then act on
/// the rows in the order they were queued, each on what the one before left.
struct MapEdit {
  std::vector<int64_t> heads{};  ///< empty: all
  Tensor rows{};                 ///< bool [query] or [batch, query]; undefined: all
  Tensor keys{};                 ///< bool [key] or [batch, key]; undefined: all
  double factor = 0;             ///< M_ij *= factor; 0 knocks out
  /// Softmax only, factor 0: hide before the softmax, so that the row sums to 1 again (attention
  /// knockout). A row whose keys are all hidden becomes 0.
  bool renormalize = false;
  /// Any other edit: gets rows [batch, head, row, key] and returns the same shape; its result is
  /// taken at the chosen entries and dropped elsewhere. Ignores `factor`.
  std::function<Tensor(Tensor, const MapBlock&)> custom{};
};

/// What a streaming reduction should compute.
struct MapReduceOptions {
  Tensor rows{};                 ///< int64 [row] or [batch, row]; undefined: every query
  std::vector<int64_t> heads{};  ///< empty: all
  Tensor segments{};         ///< int64 [key] or [batch, key]: segment id of each key, -1 for none
  int64_t num_segments = 0;  ///< ids are below it
  std::vector<int64_t> offsets{};  ///< mass on the key that far before the query
  Tensor key_sets{};               ///< int64 [batch, row, set, n]: mass on each row's sets, -1 pads
  int64_t top_k = 0;               ///< largest entries of each row; 0: none
  bool mean_rows = false;          ///< the means over rows in place of the rows, [batch, head, ..]
  /// Rows held at once where no streaming kernel serves (CPU, float64, edited maps, gradients);
  /// memory is then O(batch x heads x row_block x keys).
  int64_t row_block = 64;
};

/// The map of one layer in one forward pass: y_i = sum_j M_ij x_j (+ D x_i, + what an incoming
/// state carries).
///
/// Nothing of size query x key is made until rows are asked for. Queries are the positions of this
/// forward. Keys of attention are all cached positions (query i sits at key `first_query() + i`);
/// keys of an SSM are the positions of this forward, and what came before enters through `carry()`.
/// Formulas: softmax(scale q.k); SSD M_ij = (C_i.B_j) exp(a sum_{k=j+1..i} dt_k) dt_j;
/// DiscreteMamba2 the same with log decay -softplus(A_log_k) and no dt; S6 M_ij = sum_n C_i[n]
/// exp(A[n] sum_{k=j+1..i} dt_k) dt_j B_j[n].
class HeadMap {
 public:
  virtual ~HeadMap() = default;

  virtual LayerKind kind() const = 0;   ///< of the mixer
  virtual int64_t batch() const = 0;    ///< rows of the batch
  virtual int64_t heads() const = 0;    ///< query heads, SSM heads, or channels
  virtual int64_t queries() const = 0;  ///< positions of this forward
  virtual int64_t keys() const = 0;     ///< see above
  int64_t first_query() const { return keys() - queries(); }          ///< the key of query 0
  bool is_softmax() const { return kind() == LayerKind::Attention; }  ///< rows sum to 1
  /// Which keys rows [batch, row] see, bool [batch, 1, row, key]: those up to the query's own
  /// position; in attention, within its window and past the padding.
  virtual Tensor sees(const Tensor& rows) const;
  virtual at::Device device() const { return values().device(); }  ///< of its tensors

  /// Rows of the map with its edits applied: [batch, head, row, key]; entries above the diagonal
  /// are 0. `rows` is int64 [row] or [batch, row]; `heads` empty means all. ShapeError for an index
  /// out of range.
  Tensor rows(const Tensor& rows, const std::vector<int64_t>& heads = {}) const;
  /// Consecutive rows first .. first + count - 1.
  Tensor block(int64_t first, int64_t count, const std::vector<int64_t>& heads = {}) const;
  /// The whole map, [batch, head, query, key]: O(L^2), made because you asked.
  Tensor dense(const std::vector<int64_t>& heads = {}) const;

  /// Streaming reduction: in one pass by a kernel, or never more than `row_block` rows at once.
  MapStats reduce(const MapReduceOptions& options) const;

  /// Queues an edit; the forward then uses the edited map. ShapeError for a mask or head that does
  /// not fit, HookError for an edit that cannot be (renormalizing an SSM row, or by a factor).
  void edit(MapEdit edit);
  bool edited() const { return !edits_.empty(); }  ///< an edit is queued
  /// Entries M_ij at or below the diagonal, over batch, heads, rows and keys, that the edits cover
  /// in the map that apply() or apply_dense() last used; an entry under two edits counts twice.
  /// 0 before either was called: a forward that ends with 0 touched nothing.
  int64_t entries_edited() const;

  /// What the map multiplies: [batch, key, head, width] (attention: v, expanded to query heads;
  /// Mamba-1: width 1).
  virtual Tensor values() const = 0;
  /// What an incoming SSM state adds to y: [batch, query, head, width]; undefined when there is
  /// none.
  virtual Tensor carry() const { return {}; }
  /// y = M x + carry with edits, [batch, query, head, width], without the D skip, in the dtype of
  /// values(). Edits by a factor scale what the chosen rows read, and hidden keys are hidden by
  /// the fused kernels themselves: such an edit costs one fused pass, and rows it does not name are
  /// as they were, bit for bit. All others are applied by `apply_rows`.
  Tensor apply() const;
  /// The same through rows: those that an edit names are made, a block at a time, the rest is
  /// fused.
  Tensor apply_rows(int64_t row_block = 64) const;
  /// The same with a dense map given: [batch, head, query, key], edits already in it.
  Tensor apply_dense(const Tensor& map) const;

 protected:
  /// Unedited rows; `rows` is [batch, row], `hidden` (softmax, may be undefined) is bool
  /// [batch, head, row, key] to hide before the softmax.
  virtual Tensor raw_rows(const Tensor& rows, const std::vector<int64_t>& heads,
                          const Tensor& hidden) const = 0;
  /// The fused product of the unedited map: M (scale * values) + carry, as apply() gives it.
  /// `scale` [batch or 1, key, head or 1] may be undefined (1); `hides` are edits that renormalize.
  /// Undefined where the fused kernels cannot do that.
  virtual Tensor fused(const Tensor& scale, const std::vector<const MapEdit*>& hides) const = 0;
  /// Figures of the unedited map by a streaming kernel; nothing where none serves the request.
  virtual std::optional<MapStats> streamed(const MapStatsRequest& request) const;
  /// The first key that each query sees, int64 [batch or 1, query]; undefined: key 0.
  virtual Tensor first_seen() const { return {}; }

 private:
  Tensor edited_rows(const Tensor& rows, const std::vector<int64_t>& heads) const;
  MapStats reduce_rows(MapStatsRequest request, const MapReduceOptions& options) const;
  Tensor apply_fused(const std::vector<const MapEdit*>& hides,
                     const std::vector<const MapEdit*>& scalings) const;
  void count_entries() const;

  std::vector<MapEdit> edits_;
  mutable Tensor entries_edited_;  // int64, on the map's device: nobody waits for it
};

/// softmax of the rule's scores. q [batch, query, head, d_head], k and v [batch, key, kv_head,
/// d_head] after rotary. A row that sees no key is 0.
std::unique_ptr<HeadMap> make_softmax_map(Tensor q, Tensor k, Tensor v, AttentionRule rule);
/// SSD: log_decay [batch, pos, head] (a dt, or -softplus(A_log)), dt [batch, pos, head] (undefined:
/// 1), B, C [batch, pos, group, d_state], x [batch, pos, head, d_head], state [batch, head, d_head,
/// d_state] or undefined.
std::unique_ptr<HeadMap> make_ssd_map(LayerKind kind, Tensor log_decay, Tensor dt, Tensor B,
                                      Tensor C, Tensor x, Tensor state);
/// S6: dt, x [batch, pos, channel], A [channel, d_state] (negative), B, C [batch, pos, d_state],
/// state [batch, channel, d_state] or undefined.
std::unique_ptr<HeadMap> make_s6_map(Tensor dt, Tensor A, Tensor B, Tensor C, Tensor x,
                                     Tensor state);

}  // namespace headlens
