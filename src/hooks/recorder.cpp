// headlens/hooks: a tap that records sites by name or glob.
#include "headlens/hooks/recorder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "core/check.h"
#include "headlens/model/head_map.h"
#include "hooks/point_key.h"
#include "hooks/record_spill.h"
#include "model/promote.h"

namespace headlens {
namespace {

constexpr int64_t kNowhere = -1;

bool bears_map(Site site) {
  return site == Site::Pattern || site == Site::Map;
}

/// Which dimension of the tensor of `named` runs over positions.
int64_t position_dim(const NamedSite& named, const SiteInfo& info) {
  if (named.view == SiteView::Position) return kNowhere;
  if (named.view == SiteView::Transposed) return 2;
  for (size_t i = 0; i < info.dims.size(); ++i) {
    if (info.dims[i] == "pos" || info.dims[i] == "q") return static_cast<int64_t>(i);
  }
  return kNowhere;
}

std::unordered_map<int64_t, SiteInfo> sites_by_key(const ModelConfig& config) {
  std::unordered_map<int64_t, SiteInfo> all;
  for (SiteInfo& info : sites_of(config)) {
    const int64_t key = point_key(info.point);
    all.emplace(key, std::move(info));
  }
  return all;
}

/// Every name the patterns ask for, once, in the order of the patterns.
std::vector<NamedSite> all_names(const ModelConfig& config,
                                 const std::vector<std::string>& patterns) {
  HEADLENS_CHECK(HookError, !patterns.empty(),
                 "[record] patterns, expected at least one, got none");
  std::vector<NamedSite> all;
  std::set<std::string> seen;
  for (const std::string& pattern : patterns) {
    for (NamedSite& named : resolve_names(pattern, config)) {
      if (seen.insert(named.name).second) all.push_back(std::move(named));
    }
  }
  return all;
}

/// Positions as an index into a dimension of `size`.
Tensor index_of(const std::vector<int64_t>& positions, int64_t size, at::Device device) {
  std::vector<int64_t> index = positions;
  for (int64_t& position : index) {
    HEADLENS_CHECK(HookError, -size <= position && position < size,
                   "[record] position, expected {} to {}, got {}", -size, size - 1, position);
    if (position < 0) position += size;
  }
  return at::tensor(index, at::kLong).to(device);
}

/// A copy where the tensor would otherwise keep a larger storage alive.
Tensor without_excess(const Tensor& value) {
  const size_t own = static_cast<size_t>(value.numel()) * value.element_size();
  return value.storage().nbytes() > own ? value.clone(at::MemoryFormat::Contiguous) : value;
}

/// The dtype a model of `dtype` makes a site in: what sums over many terms is at least float32.
at::ScalarType made_in(Site site, const ModelConfig& config, at::ScalarType dtype) {
  switch (site) {
    case Site::ResidPre:
    case Site::ResidMid:
    case Site::ResidPost:
      return config.residual_in_fp32 ? at_least_float32(dtype) : dtype;
    case Site::FinalScale:
    case Site::Ln1Scale:
    case Site::Ln1PostScale:
    case Site::Ln2Scale:
    case Site::Ln2PostScale:
    case Site::LnMixerScale:
    case Site::AttnScores:
    case Site::Pattern:
    case Site::Map:
    case Site::A:
    case Site::ABar:
    case Site::BBar:
    case Site::Dt:
    case Site::StateStart:
    case Site::State:
    case Site::SsmOut:
      return at_least_float32(dtype);
    default:
      return dtype;
  }
}

/// Elements that `named` holds of a batch, with `kept` of `pos` positions.
int64_t numel_of(const NamedSite& named, const SiteInfo& info, int64_t batch, int64_t pos,
                 int64_t kept) {
  int64_t numel = named.view == SiteView::HeadCopies ? named.extra : 1;
  for (size_t i = 0; i < info.dims.size(); ++i) {
    const bool over_positions = info.dims[i] == "pos" || info.dims[i] == "q";
    const int64_t positions = named.view == SiteView::Position ? 1 : kept;
    const int64_t of_prompt = info.dims[i] == "batch" ? batch : over_positions ? positions : pos;
    numel *= info.sizes[i] < 0 ? of_prompt : info.sizes[i];
  }
  return numel;
}

/// Bytes of each tensor that the patterns name.
std::vector<int64_t> bytes_of_each(const ModelConfig& config,
                                   const std::vector<std::string>& patterns, int64_t batch,
                                   int64_t pos, at::ScalarType dtype,
                                   const RecordOptions& options) {
  const auto sites = sites_by_key(config);
  const int64_t kept = options.positions.empty() ? pos : std::ssize(options.positions);
  std::vector<int64_t> all;
  for (const NamedSite& named : all_names(config, patterns)) {
    const SiteInfo& info = sites.at(point_key(named.point));
    const at::ScalarType made = made_in(named.point.site, config, dtype);
    all.push_back(numel_of(named, info, batch, pos, kept) *
                  static_cast<int64_t>(element_size(options.dtype.value_or(made))));
  }
  return all;
}

}  // namespace

Recorder::Recorder(const ModelConfig& config, const std::vector<std::string>& patterns,
                   RecordOptions options)
    : options_(std::move(options)) {
  if (options_.budget) spill_ = std::make_unique<RecordSpill>(*options_.budget);
  const auto sites = sites_by_key(config);
  for (NamedSite& named : all_names(config, patterns)) {
    const int64_t key = point_key(named.point);
    Item item{std::move(named), false, kNowhere};
    if (!options_.positions.empty()) {
      item.through_map = bears_map(item.named.point.site);
      item.position_dim = position_dim(item.named, sites.at(key));
    }
    at_point_[key].push_back(items_.size());
    items_.push_back(std::move(item));
  }
}

Recorder::~Recorder() = default;

ActivationCache Recorder::take() {
  check_complete();
  return std::exchange(cache_, {});
}

void Recorder::check_complete() const {
  std::vector<std::string> missing;
  for (const Item& item : items_) {
    if (!cache_.has(item.named.name)) missing.push_back(item.named.name);
  }
  HEADLENS_CHECK(HookError, missing.empty(),
                 "[record] sites, expected each to fire, got no call of {}",
                 fmt::join(missing, ", "));
}

bool Recorder::wants(TapPoint point) const {
  const auto found = at_point_.find(point_key(point));
  return found != at_point_.end() && !items_[found->second.front()].through_map;
}

Tensor Recorder::visit(TapPoint point, Tensor value) {
  for (const size_t i : at_point_.at(point_key(point))) {
    keep(items_[i], view_site(items_[i].named, value));
  }
  return value;
}

bool Recorder::wants_map(TapPoint point) const {
  const auto found = at_point_.find(point_key(point));
  return found != at_point_.end() && items_[found->second.front()].through_map;
}

void Recorder::visit_map(TapPoint point, HeadMap& map) {
  for (const size_t i : at_point_.at(point_key(point))) {
    const Item item{items_[i].named, true, kNowhere};  // the rows are the positions
    keep(item, map.rows(index_of(options_.positions, map.queries(), map.device())));
  }
}

void Recorder::keep(const Item& item, Tensor value) {
  if (!options_.keep_grad) value = value.detach();
  if (item.position_dim != kNowhere) {
    const int64_t size = value.size(item.position_dim);
    value =
        value.index_select(item.position_dim, index_of(options_.positions, size, value.device()));
  }
  if (options_.dtype && value.is_floating_point()) value = value.to(*options_.dtype);
  if (options_.device) value = value.to(*options_.device);
  value = without_excess(value);
  if (spill_) value = spill_->place(item.named.name, value);
  cache_.set(item.named.name, value);
}

int64_t recording_bytes(const ModelConfig& config, const std::vector<std::string>& patterns,
                        int64_t batch, int64_t pos, at::ScalarType dtype,
                        const RecordOptions& options) {
  const auto all = bytes_of_each(config, patterns, batch, pos, dtype, options);
  return std::accumulate(all.begin(), all.end(), int64_t{0});
}

int64_t largest_recorded_bytes(const ModelConfig& config, const std::vector<std::string>& patterns,
                               int64_t batch, int64_t pos, at::ScalarType dtype,
                               const RecordOptions& options) {
  const auto all = bytes_of_each(config, patterns, batch, pos, dtype, options);
  return *std::max_element(all.begin(), all.end());
}

}  // namespace headlens
