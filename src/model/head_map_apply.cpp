// headlens/model: products of a head map with what it multiplies, edits included.
#include <ATen/ATen.h>
#include <ATen/TensorIndexing.h>

#include <algorithm>
#include <set>

#include "headlens/model/head_map.h"
#include "model/head_map_parts.h"

namespace headlens {
namespace {

using Edits = std::vector<const MapEdit*>;

Tensor all_queries(const HeadMap& map) {
  return at::arange(map.queries(), at::TensorOptions().dtype(at::kLong).device(map.device()));
}

/// What an edit multiplies a value by: [batch or 1, key, head or 1].
Tensor scale_of(const HeadMap& map, const MapEdit& edit) {
  const auto options = at::TensorOptions().device(map.device()).dtype(at::kDouble);
  Tensor scale = at::full({1, map.keys(), 1}, edit.factor, options);
  if (edit.keys.defined()) {
    scale = at::where(edit.keys.unsqueeze(-1), scale, at::ones({1}, options));
  }
  if (edit.heads.empty()) return scale;
  Tensor chosen = at::zeros({map.heads()}, at::kBool);
  for (const int64_t head : edit.heads) chosen[head] = true;
  return at::where(chosen.to(map.device()), scale, at::ones({1}, options));
}

/// The rows to which exactly the scalings of `subset` apply, bool [batch or 1, query].
Tensor rows_under(const HeadMap& map, const Edits& scalings, unsigned subset) {
  const auto options = at::TensorOptions().device(map.device()).dtype(at::kBool);
  Tensor rows = at::ones({1, map.queries()}, options);
  for (size_t i = 0; i < scalings.size(); ++i) {
    const Tensor& mask = scalings[i]->rows;
    const bool inside = (subset >> i & 1) != 0;
    if (!mask.defined() && !inside) return at::zeros({1, map.queries()}, options);
    if (mask.defined()) rows = rows & (inside ? mask : mask.logical_not());
  }
  return rows;
}

/// The queries and heads that some edit names, as index lists; empty: all.
struct Touched {
  Tensor rows;  // int64 [row]: the union over the batch; undefined: all
  std::vector<int64_t> heads;

  Touched(const std::vector<MapEdit>& edits, at::Device device) {
    std::set<int64_t> named;
    Tensor any;
    bool every_row = edits.empty(), every_head = edits.empty();
    for (const MapEdit& edit : edits) {
      every_row = every_row || !edit.rows.defined();
      every_head = every_head || edit.heads.empty();
      named.insert(edit.heads.begin(), edit.heads.end());
      if (edit.rows.defined()) any = any.defined() ? any | edit.rows.any(0) : edit.rows.any(0);
    }
    if (!every_row) rows = any.to(at::kCPU).nonzero().flatten().to(device);
    if (!every_head) heads.assign(named.begin(), named.end());
  }
};

}  // namespace

// Counted from the masks, not from rows made: the same whatever the way.
void HeadMap::count_entries() const {
  const Tensor query = all_queries(*this);
  const Tensor first = first_seen().defined() ? first_seen() : at::zeros_like(query).unsqueeze(0);
  const Tensor last = (query + first_query()).unsqueeze(0);  // the last key a query sees
  entries_edited_ = at::zeros({}, query.options());
  for (const MapEdit& edit : edits_) {
    const Tensor keys = edit.keys.defined() ? edit.keys.to(at::kLong)
                                            : at::ones({1, this->keys()}, query.options());
    const int64_t copies = std::max({keys.size(0), first.size(0), int64_t{1}});
    const Tensor up_to = at::constant_pad_nd(keys.cumsum(1), {1, 0}).expand({copies, -1});
    const Tensor from = first.clamp_max(last + 1).expand({copies, -1});
    Tensor seen = up_to.gather(1, (last + 1).expand({copies, -1})) - up_to.gather(1, from);
    if (edit.rows.defined()) seen = seen * edit.rows;
    const std::set<int64_t> heads(edit.heads.begin(), edit.heads.end());
    const int64_t chosen = heads.empty() ? this->heads() : std::ssize(heads);
    entries_edited_ += seen.sum() * (chosen * (batch() / seen.size(0)));
  }
}

int64_t HeadMap::entries_edited() const {
  return entries_edited_.defined() ? entries_edited_.item<int64_t>() : 0;
}

Tensor HeadMap::apply() const {
  constexpr size_t kMost = 3;  // of a kind: each set of edits that share rows costs a pass
  Edits hides, scalings;
  bool custom = false;
  for (const MapEdit& edit : edits_) {
    custom = custom || edit.custom;
    (edit.renormalize ? hides : scalings).push_back(&edit);
  }
  if (!custom && hides.size() <= kMost && scalings.size() <= kMost) {
    if (Tensor y = apply_fused(hides, scalings); y.defined()) {
      count_entries();
      return y;
    }
  }
  return apply_rows();
}

/// A scaled entry M_ij of row i is M times a scaled value: rows under different scalings come from
/// passes with different values.
Tensor HeadMap::apply_fused(const Edits& hides, const Edits& scalings) const {
  const auto scaled = [&](unsigned subset) {
    Tensor scale = at::ones({1, 1, 1}, at::TensorOptions().device(device()).dtype(at::kDouble));
    for (size_t i = 0; i < scalings.size(); ++i) {
      if ((subset >> i & 1) != 0) scale = scale * scale_of(*this, *scalings[i]);
    }
    return fused(scale, hides);
  };
  if (scalings.empty()) return fused({}, hides);
  const unsigned subsets = 1u << scalings.size();
  const bool any_rows = std::none_of(scalings.begin(), scalings.end(),
                                     [](const MapEdit* edit) { return edit->rows.defined(); });
  if (any_rows) return scaled(subsets - 1);
  Tensor y = fused({}, hides);
  for (unsigned subset = 1; y.defined() && subset < subsets; ++subset) {
    const Tensor rows = rows_under(*this, scalings, subset).unsqueeze(-1).unsqueeze(-1);
    y = at::where(rows, scaled(subset), y);
  }
  return y;
}

Tensor HeadMap::apply_rows(int64_t row_block) const {
  HEADLENS_CHECK(ShapeError, row_block > 0,
                 "[HeadMap::apply_rows] row_block, expected at least 1, got {}", row_block);
  count_entries();
  const Touched touched(edits_, device());
  const Tensor rows = touched.rows.defined() ? touched.rows : all_queries(*this);
  const Tensor x = values();
  Tensor y = fused({}, {}).clone();  // [batch, query, head, width]
  if (rows.numel() == 0) return y;
  const Tensor before = carry();
  const int64_t block = std::min(row_block, rows.numel());
  for (const auto& heads : head_blocks(*this, touched.heads, block)) {
    const Tensor index = head_index(all_heads(heads, this->heads()), device());
    const Tensor read = x.index_select(2, index).transpose(1, 2);
    for (int64_t first = 0; first < rows.numel(); first += block) {
      const Tensor some = rows.narrow(0, first, std::min(block, rows.numel() - first));
      const Tensor map = edited_rows(some.unsqueeze(0).expand({batch(), -1}), heads);
      Tensor made = at::matmul(map, read.to(map.scalar_type())).transpose(1, 2);
      if (before.defined()) made = made + before.index_select(1, some).index_select(2, index);
      y.index_put_({at::indexing::Slice(), some.unsqueeze(1), index.unsqueeze(0)},
                   made.to(y.scalar_type()));
    }
  }
  return y;
}

Tensor HeadMap::apply_dense(const Tensor& map) const {
  check_map_input("HeadMap::apply_dense", "map", map, {batch(), heads(), queries(), keys()});
  count_entries();
  const Tensor x = values();
  const auto dtype = at::promote_types(map.scalar_type(), x.scalar_type());
  const Tensor y = at::matmul(map.to(dtype), x.to(dtype).transpose(1, 2)).transpose(1, 2);
  const Tensor before = carry();
  return (before.defined() ? y + before : y).to(x.scalar_type());
}

}  // namespace headlens
