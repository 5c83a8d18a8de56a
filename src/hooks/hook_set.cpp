// headlens/hooks: callbacks at named sites, alive as long as their scope.
#include "headlens/hooks/hook_set.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <unordered_map>

#include "core/check.h"
#include "hooks/point_key.h"

namespace headlens {
namespace {

constexpr int64_t kNoScope = -1;

/// One hook: a callback at its sites, or an intervention, which knows its own.
struct Hook {
  int64_t id = -1;
  int64_t scope = kNoScope;
  std::string pattern;
  std::vector<NamedSite> sites;
  TensorHook on_tensor;
  MapHook on_map;
  std::shared_ptr<Intervention> intervention;
  std::unordered_map<int64_t, std::vector<size_t>> at_point;  // into sites
  std::unordered_map<int64_t, int64_t> fired;

  bool has(TapPoint point) const { return at_point.contains(point_key(point)); }
  bool wants(TapPoint point) const {
    return intervention ? intervention->wants(point) : on_tensor && has(point);
  }
  bool wants_map(TapPoint point) const {
    return intervention ? intervention->wants_map(point) : on_map && has(point);
  }
  int64_t fired_at(TapPoint point) const {
    const auto found = fired.find(point_key(point));
    return found == fired.end() ? 0 : found->second;
  }

  Tensor visit(TapPoint point, Tensor value) {
    ++fired[point_key(point)];
    if (intervention) return intervention->visit(point, std::move(value));
    for (const size_t i : at_point.at(point_key(point))) {
      const Tensor shown = view_site(sites[i], value);
      const Tensor seen = on_tensor(point, shown);
      if (!seen.is_same(shown)) value = unview_site(sites[i], value, seen);
    }
    return value;
  }

  void visit_map(TapPoint point, HeadMap& map) {
    ++fired[point_key(point)];
    if (intervention) return intervention->visit_map(point, map);
    on_map(point, map);
  }

  void list_unfired(std::vector<std::string>& out) const {
    for (const NamedSite& named : sites) {
      if (fired_at(named.point) == 0) out.push_back(fmt::format("'{}' at {}", pattern, named.name));
    }
  }
};

using HookPtr = std::shared_ptr<Hook>;

void check_fired(const std::vector<HookPtr>& hooks) {
  std::vector<std::string> unfired;
  for (const HookPtr& hook : hooks) hook->list_unfired(unfired);
  HEADLENS_CHECK(HookError, unfired.empty(),
                 "[hooks] hooks, expected each to fire, got no call of {}",
                 fmt::join(unfired, ", "));
  for (const HookPtr& hook : hooks) {
    if (hook->intervention) hook->intervention->check_touched();
  }
}

}  // namespace

struct HookSet::State {
  ModelConfig config;
  std::vector<HookPtr> hooks;  // in the order they were added
  std::vector<int64_t> open;   // scopes, innermost last
  int64_t next_id = 0;

  HookHandle add(Hook hook) {
    hook.id = next_id++;
    hook.scope = open.empty() ? kNoScope : open.back();
    for (size_t i = 0; i < hook.sites.size(); ++i) {
      hook.at_point[point_key(hook.sites[i].point)].push_back(i);
    }
    hooks.push_back(std::make_shared<Hook>(std::move(hook)));
    return {hooks.back()->id};
  }

  const Hook& find(HookHandle handle) const {
    const auto found = std::find_if(hooks.begin(), hooks.end(),
                                    [&](const HookPtr& hook) { return hook->id == handle.id; });
    HEADLENS_CHECK(HookError, found != hooks.end(),
                   "[hooks] handle, expected a hook of this set, got {} (removed?)", handle.id);
    return **found;
  }
};

HookSet::Scope::Scope(Scope&& other) noexcept
    : state_(std::exchange(other.state_, {})), id_(other.id_) {}

void HookSet::Scope::close() {
  const auto state = std::exchange(state_, {}).lock();
  if (!state) return;
  std::erase_if(state->hooks, [this](const HookPtr& hook) { return hook->scope == id_; });
  std::erase(state->open, id_);
}

void HookSet::Scope::check_all_fired() const {
  const auto state = state_.lock();
  if (!state) return;
  std::vector<HookPtr> own;
  for (const HookPtr& hook : state->hooks) {
    if (hook->scope == id_) own.push_back(hook);
  }
  check_fired(own);
}

HookSet::HookSet(const ModelConfig& config) : state_(std::make_shared<State>()) {
  state_->config = config;
}

HookSet::~HookSet() = default;

HookHandle HookSet::add(std::string_view pattern, TensorHook hook) {
  HEADLENS_CHECK(HookError, hook != nullptr, "[hooks] hook on '{}', expected a function, got none",
                 pattern);
  Hook entry;
  entry.pattern = pattern;
  entry.sites = resolve_names(pattern, state_->config);
  entry.on_tensor = std::move(hook);
  return state_->add(std::move(entry));
}

HookHandle HookSet::add_map(std::string_view pattern, MapHook hook) {
  HEADLENS_CHECK(HookError, hook != nullptr, "[hooks] hook on '{}', expected a function, got none",
                 pattern);
  Hook entry;
  entry.pattern = pattern;
  for (const NamedSite& named : resolve_names(pattern, state_->config)) {
    const Site site = named.point.site;
    if (site == Site::Pattern || site == Site::Map) entry.sites.push_back(named);
  }
  HEADLENS_CHECK(
      HookError, !entry.sites.empty(),
      "[hooks] map hook on '{}', expected attn.hook_pattern or mixer.hook_map, got other "
      "sites only",
      pattern);
  entry.on_map = std::move(hook);
  return state_->add(std::move(entry));
}

HookHandle HookSet::add(std::shared_ptr<Intervention> intervention) {
  HEADLENS_CHECK(HookError, intervention != nullptr,
                 "[hooks] intervention, expected one, got none");
  Hook entry;
  entry.pattern = "intervention";
  entry.intervention = std::move(intervention);
  return state_->add(std::move(entry));
}

void HookSet::remove(HookHandle handle) {
  state_->find(handle);
  std::erase_if(state_->hooks, [&](const HookPtr& hook) { return hook->id == handle.id; });
}

HookSet::Scope HookSet::scope() {
  const int64_t id = state_->next_id++;
  state_->open.push_back(id);
  return {state_, id};
}

size_t HookSet::size() const {
  return state_->hooks.size();
}

int64_t HookSet::fired(HookHandle handle) const {
  int64_t sum = 0;
  for (const auto& [key, count] : state_->find(handle).fired) sum += count;
  return sum;
}

int64_t HookSet::fired(HookHandle handle, TapPoint point) const {
  return state_->find(handle).fired_at(point);
}

void HookSet::reset_counts() {
  for (const HookPtr& hook : state_->hooks) {
    hook->fired.clear();
    if (hook->intervention) hook->intervention->reset();
  }
}

void HookSet::check_all_fired() const {
  check_fired(state_->hooks);
}

bool HookSet::wants(TapPoint point) const {
  return std::any_of(state_->hooks.begin(), state_->hooks.end(),
                     [&](const HookPtr& hook) { return hook->wants(point); });
}

Tensor HookSet::visit(TapPoint point, Tensor value) {
  const std::vector<HookPtr> hooks = state_->hooks;  // a hook may add or remove hooks
  for (const HookPtr& hook : hooks) {
    if (hook->wants(point)) value = hook->visit(point, std::move(value));
  }
  return value;
}

bool HookSet::wants_map(TapPoint point) const {
  return std::any_of(state_->hooks.begin(), state_->hooks.end(),
                     [&](const HookPtr& hook) { return hook->wants_map(point); });
}

void HookSet::visit_map(TapPoint point, HeadMap& map) {
  const std::vector<HookPtr> hooks = state_->hooks;
  for (const HookPtr& hook : hooks) {
    if (hook->wants_map(point)) hook->visit_map(point, map);
  }
}

TapChain::TapChain(std::vector<Tap*> taps) : taps_(std::move(taps)) {
  std::erase(taps_, nullptr);
}

bool TapChain::wants(TapPoint point) const {
  return std::any_of(taps_.begin(), taps_.end(), [&](const Tap* tap) { return tap->wants(point); });
}

Tensor TapChain::visit(TapPoint point, Tensor value) {
  for (Tap* tap : taps_) {
    if (tap->wants(point)) value = tap->visit(point, std::move(value));
  }
  return value;
}

bool TapChain::wants_map(TapPoint point) const {
  return std::any_of(taps_.begin(), taps_.end(),
                     [&](const Tap* tap) { return tap->wants_map(point); });
}

void TapChain::visit_map(TapPoint point, HeadMap& map) {
  for (Tap* tap : taps_) {
    if (tap->wants_map(point)) tap->visit_map(point, map);
  }
}

}  // namespace headlens
