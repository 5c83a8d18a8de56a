// headlens/model: rows that begin alike, run once up to where they part.
#include "headlens/model/row_fork.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/check.h"

namespace headlens {
namespace {

bool turns_by_length(const AttentionSpec& attention) {
  return attention.rope && (std::holds_alternative<DynamicRopeScaling>(attention.rope->scaling) ||
                            std::holds_alternative<LongRopeScaling>(attention.rope->scaling));
}

/// Positions at the start that rows first .. end - 1 have alike.
int64_t common_length(const Tensor& ids, int64_t first, int64_t end) {
  const auto rows = ids.accessor<int64_t, 2>();
  int64_t length = 0;
  for (; length < ids.size(1); ++length) {
    for (int64_t row = first + 1; row < end; ++row) {
      if (rows[row][length] != rows[first][length]) return length;
    }
  }
  return length;
}

/// One trunk for the rows from each of `first_rows` to the next.
struct Split {
  std::vector<int64_t> first_rows, owner;
  int64_t length = 0;
  int64_t tokens = 0;  // run in trunks and after them
};

Split split_at(const Tensor& ids, const std::vector<int64_t>& first_rows) {
  const int64_t rows = ids.size(0), pos = ids.size(1), trunks = std::ssize(first_rows);
  Split split{first_rows, {}, pos - 1, 0};
  for (int64_t i = 0; i < trunks; ++i) {
    const int64_t first = first_rows[static_cast<size_t>(i)];
    const int64_t end = i + 1 < trunks ? first_rows[static_cast<size_t>(i) + 1] : rows;
    split.length = std::min(split.length, common_length(ids, first, end));
    split.owner.insert(split.owner.end(), static_cast<size_t>(end - first), i);
  }
  split.tokens = trunks * split.length + rows * (pos - split.length);
  return split;
}

/// Finds the judged positions that lie in trunks; each of a trunk's is computed once.
void plan_slots(const Tensor& positions, RowFork& fork) {
  const Tensor judged = positions.to(at::kCPU).contiguous();
  const auto position = judged.accessor<int64_t, 2>();
  const auto* owner = fork.owner.const_data_ptr<int64_t>();
  std::vector<std::vector<int64_t>> seen(static_cast<size_t>(fork.trunk_rows.numel()));
  fork.slot_in_trunk = at::zeros_like(judged);
  auto slot = fork.slot_in_trunk.accessor<int64_t, 2>();
  size_t most = 1;
  for (int64_t row = 0; row < judged.size(0); ++row) {
    std::vector<int64_t>& own = seen[static_cast<size_t>(owner[row])];
    for (int64_t s = 0; s < judged.size(1); ++s) {
      if (position[row][s] >= fork.length) continue;
      const auto found = std::find(own.begin(), own.end(), position[row][s]);
      slot[row][s] = found - own.begin();
      if (found == own.end()) own.push_back(position[row][s]);
    }
    most = std::max(most, own.size());
  }
  fork.trunk_positions =
      at::zeros({std::ssize(seen), static_cast<int64_t>(most)}, judged.options());
  for (size_t i = 0; i < seen.size(); ++i) {
    Tensor own = fork.trunk_positions[static_cast<int64_t>(i)];
    if (!seen[i].empty()) own.slice(0, 0, std::ssize(seen[i])).copy_(at::tensor(seen[i]));
  }
  fork.is_in_trunk = judged.lt(fork.length);
  fork.rest_positions = (judged - fork.length).clamp_min(0);
}

}  // namespace

bool goes_on_from_states(const ModelConfig& config) {
  return std::none_of(config.layers.begin(), config.layers.end(), [](const LayerSpec& layer) {
    const auto* mixer = layer.mixer ? std::get_if<AttentionSpec>(&*layer.mixer) : nullptr;
    return (mixer != nullptr && turns_by_length(*mixer)) ||
           (layer.attention && turns_by_length(*layer.attention));
  });
}

std::optional<RowFork> fork_rows(const ModelConfig& config, const ObjectiveBatch& batch,
                                 Trunks trunks) {
  if (trunks == Trunks::None || !goes_on_from_states(config)) return std::nullopt;
  const Tensor ids = batch.ids.to(at::kCPU);
  Split split = split_at(ids, batch.example_rows);
  if (trunks == Trunks::Any) {
    const Split whole = split_at(ids, {0});
    if (10 * whole.tokens <= 9 * split.tokens) split = whole;  // two parts have more calls than one
  }
  if (split.tokens >= ids.numel()) return std::nullopt;
  RowFork fork;
  fork.length = split.length;
  fork.trunk_rows = at::tensor(split.first_rows, at::kLong);
  fork.owner = at::tensor(split.owner, at::kLong);
  fork.trunk_ids = ids.index_select(0, fork.trunk_rows).slice(1, 0, split.length);
  fork.rest_ids = ids.slice(1, split.length);
  plan_slots(batch.logit_positions, fork);
  return fork;
}

Tensor join_fork(const RowFork& fork, const Tensor& trunk, const Tensor& rest, int64_t copies) {
  const Tensor shift = at::arange(copies, at::kLong).unsqueeze(1) * fork.trunk_rows.numel();
  const Tensor owner = (shift + fork.owner).view({-1, 1}).to(rest.device());
  const Tensor slot = fork.slot_in_trunk.repeat({copies, 1}).to(rest.device());
  const Tensor in_trunk = fork.is_in_trunk.repeat({copies, 1}).unsqueeze(-1).to(rest.device());
  return at::where(in_trunk, trunk.index({owner, slot}), rest);
}

Tensor run_judged(const LanguageModel& model, const ObjectiveBatch& batch) {
  const auto run = [&](const Tensor& ids, const Tensor& positions, ModelState* state) {
    Prompt prompt;
    if (state != nullptr) prompt.start = state->position;
    const Tensor resid = model.embed(ids, nullptr, prompt);
    prompt.embedding = model.prompt_of(resid).embedding;
    return model.run_to_end(resid, 0, positions, nullptr, state, prompt);
  };
  const auto fork = fork_rows(model.config(), batch);
  if (!fork) return run(batch.ids, batch.logit_positions, nullptr);
  ModelState state;
  const Tensor trunk = run(fork->trunk_ids, fork->trunk_positions, &state);
  state = forked_state(state, fork->owner);
  return join_fork(*fork, trunk, run(fork->rest_ids, fork->rest_positions, &state));
}

LayerState forked_state(const LayerState& state, const Tensor& owner) {
  const auto take = [&](const Tensor& x) {
    return x.defined() ? x.index_select(0, owner.to(x.device())) : x;
  };
  LayerState forked{take(state.k), take(state.v), take(state.conv), take(state.ssm)};
  for (const LayerState& graft : state.grafts) forked.grafts.push_back(forked_state(graft, owner));
  return forked;
}

ModelState forked_state(const ModelState& state, const Tensor& owner) {
  HEADLENS_CHECK(ShapeError, !state.first.defined(),
                 "[fork] state, expected one without padding before its rows, got {}",
                 shape_string(state.first.sizes()));
  ModelState forked;
  forked.position = state.position;
  for (const LayerState& layer : state.layers) forked.layers.push_back(forked_state(layer, owner));
  return forked;
}

}  // namespace headlens
