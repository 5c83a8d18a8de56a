// headlens/model: rows, edits and products of a head map of any kind.
#include "headlens/model/head_map.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "model/head_map_parts.h"

namespace headlens {
namespace {

Tensor consecutive_rows(const HeadMap& map, int64_t first, int64_t count) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(map.device());
  return at::arange(first, first + count, options).unsqueeze(0).expand({map.batch(), count});
}

// A mask of an edit as [batch or 1, n] on the map's device.
Tensor checked_mask(const HeadMap& map, const char* name, const Tensor& mask, int64_t n) {
  HEADLENS_CHECK(ShapeError, mask.scalar_type() == at::kBool,
                 "[HeadMap::edit] dtype of {}, expected bool, got {}", name,
                 dtype_name(mask.scalar_type()));
  const bool fits = (mask.dim() == 1 && mask.size(0) == n) ||
                    (mask.dim() == 2 && mask.size(0) == map.batch() && mask.size(1) == n);
  HEADLENS_CHECK(ShapeError, fits, "[HeadMap::edit] {}, expected [{}] or [{}, {}], got {}", name, n,
                 map.batch(), n, shape_string(mask.sizes()));
  return (mask.dim() == 1 ? mask.unsqueeze(0) : mask).to(map.device());
}

// Which entries of a block the edit covers, broadcastable to [batch, head, row, key].
Tensor covered(const HeadMap& map, const MapEdit& edit, const Tensor& rows,
               const std::vector<int64_t>& heads) {
  Tensor cover = map.sees(rows);  // [batch, 1, row, key]
  if (edit.rows.defined()) {
    const Tensor all = edit.rows.expand({map.batch(), map.queries()});
    cover = cover & all.gather(1, rows).unsqueeze(1).unsqueeze(-1);
  }
  if (edit.keys.defined()) cover = cover & edit.keys.unsqueeze(1).unsqueeze(1);
  if (edit.heads.empty()) return cover;
  std::vector<int64_t> chosen;
  for (const int64_t head : all_heads(heads, map.heads())) {
    chosen.push_back(std::count(edit.heads.begin(), edit.heads.end(), head) > 0 ? 1 : 0);
  }
  const Tensor by_head = at::tensor(chosen, at::kLong).to(map.device()).to(at::kBool);
  return cover & by_head.view({1, -1, 1, 1});
}

Tensor after_custom(const MapEdit& edit, const Tensor& map_rows, const Tensor& cover,
                    const MapBlock& block) {
  const Tensor changed = edit.custom(map_rows, block);
  HEADLENS_CHECK(ShapeError, changed.defined() && changed.sizes() == map_rows.sizes(),
                 "[HeadMap::edit] rows from a custom edit, expected {}, got {}",
                 shape_string(map_rows.sizes()),
                 changed.defined() ? shape_string(changed.sizes()) : "no tensor");
  return at::where(cover, changed.to(map_rows.scalar_type()), map_rows);
}

}  // namespace

Tensor HeadMap::sees(const Tensor& rows) const {
  return attention_sees({}, rows, keys(), first_query());
}

Tensor HeadMap::edited_rows(const Tensor& rows, const std::vector<int64_t>& heads) const {
  Tensor hidden;
  for (const MapEdit& edit : edits_) {
    if (!edit.renormalize) continue;
    const Tensor cover = covered(*this, edit, rows, heads);
    hidden = hidden.defined() ? hidden | cover : cover;
  }
  Tensor result = raw_rows(rows, heads, hidden);
  for (const MapEdit& edit : edits_) {
    if (edit.renormalize) continue;
    const Tensor cover = covered(*this, edit, rows, heads);
    if (edit.custom) {
      const MapBlock block{rows, all_heads(heads, this->heads()), keys()};
      result = after_custom(edit, result, cover, block);
    } else if (edit.factor == 0) {
      result = result.masked_fill(cover, 0);  // not a product: 0 even where M is not finite
    } else {
      result = at::where(cover, result * edit.factor, result);
    }
  }
  return result;
}

Tensor HeadMap::rows(const Tensor& rows, const std::vector<int64_t>& heads) const {
  check_heads(*this, heads);
  return edited_rows(checked_rows(*this, rows), heads);
}

Tensor HeadMap::block(int64_t first, int64_t count, const std::vector<int64_t>& heads) const {
  HEADLENS_CHECK(ShapeError, first >= 0 && count >= 0 && first + count <= queries(),
                 "[HeadMap::block] rows, expected within 0 to {}, got {} to {}", queries() - 1,
                 first, first + count - 1);
  check_heads(*this, heads);
  return edited_rows(consecutive_rows(*this, first, count), heads);
}

Tensor HeadMap::dense(const std::vector<int64_t>& heads) const {
  return block(0, queries(), heads);
}

void HeadMap::edit(MapEdit edit) {
  check_heads(*this, edit.heads);
  if (edit.rows.defined()) edit.rows = checked_mask(*this, "rows", edit.rows, queries());
  if (edit.keys.defined()) edit.keys = checked_mask(*this, "keys", edit.keys, keys());
  if (edit.renormalize) {
    HEADLENS_CHECK(HookError, is_softmax(),
                   "[HeadMap::edit] renormalize, expected an attention map, got {}",
                   layer_kind_name(kind()));
    HEADLENS_CHECK(HookError, !edit.custom && edit.factor == 0,
                   "[HeadMap::edit] renormalize, expected factor 0 and no custom function, got {}",
                   edit.custom ? "a custom function" : fmt::format("factor {}", edit.factor));
  }
  edits_.push_back(std::move(edit));
}

// Counted from the masks, not from rows made: the same whatever the blocks.
void HeadMap::count_entries() const {
  constexpr int64_t kBlock = 256;
  entries_edited_ = 0;
  for (const MapEdit& edit : edits_) {
    MapEdit of_any_head = edit;
    of_any_head.heads.clear();
    std::vector<int64_t> chosen = all_heads(edit.heads, heads());
    std::sort(chosen.begin(), chosen.end());
    const auto distinct = std::unique(chosen.begin(), chosen.end()) - chosen.begin();
    for (int64_t from = 0; from < queries(); from += kBlock) {
      const Tensor rows = consecutive_rows(*this, from, std::min(kBlock, queries() - from));
      const Tensor cover = covered(*this, of_any_head, rows, {});  // [batch or 1, 1, row, key]
      const int64_t copies = cover.size(0) == batch() ? 1 : batch();
      entries_edited_ += cover.sum().item<int64_t>() * copies * distinct;
    }
  }
}

Tensor HeadMap::apply(int64_t row_block) const {
  HEADLENS_CHECK(ShapeError, row_block > 0,
                 "[HeadMap::apply] row_block, expected at least 1, got {}", row_block);
  count_entries();
  const Tensor x = values();  // [batch, key, head, width]
  std::vector<Tensor> by_head;
  for (const auto& heads : head_blocks(*this, {}, std::min(row_block, queries()))) {
    Tensor read = x.transpose(1, 2);
    if (!heads.empty()) {
      read = read.narrow(1, heads.front(), static_cast<int64_t>(heads.size()));
    }
    std::vector<Tensor> by_row;
    for (int64_t first = 0; first < queries(); first += row_block) {
      const Tensor map = block(first, std::min(row_block, queries() - first), heads);
      by_row.push_back(at::matmul(map, read.to(map.scalar_type())));
    }
    by_head.push_back(at::cat(by_row, 2));
  }
  const Tensor y = at::cat(by_head, 1).transpose(1, 2);
  const Tensor before = carry();
  return (before.defined() ? y + before : y).to(x.scalar_type());
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
