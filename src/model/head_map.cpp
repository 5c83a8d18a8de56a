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

}  // namespace headlens
