// headlens/analysis: what another run's state, carried past a position, adds to a head's output.
#include <ATen/ATen.h>

#include "analysis/patch_sites.h"
#include "headlens/kernels/selective_scan.h"
#include "headlens/kernels/ssd_scan.h"

namespace headlens {
namespace {

constexpr int64_t kChunk = 64;

/// What the scan of one mixer reads.
struct ScanInputs {
  Tensor x, dt, A, B, C;  // as at their sites; dt undefined in DiscreteMamba2
};

ScanInputs inputs_of(const PatchPlace& place, const std::map<TapPoint, Tensor>& kept) {
  const auto at = [&](Site site) { return kept.at({site, place.point.layer}); };
  const bool discrete = place.kind == LayerKind::DiscreteMamba2;
  return {at(Site::SsmInput), discrete ? Tensor() : at(Site::Dt), at(Site::A), at(Site::B),
          at(Site::C)};
}

struct Scanned {
  Tensor y, state;
};

/// The scan in which only the positions of `where`, bool [row, pos, 1], let time pass and are read.
Scanned scan(const PatchPlace& place, const ScanInputs& in, const Tensor& x, const Tensor& where,
             const Tensor& start) {
  if (place.kind == LayerKind::Mamba1) {
    auto found = selective_scan(x, in.dt * where, in.A, in.B, in.C, start);
    return {found.y, found.state};
  }
  const bool discrete = place.kind == LayerKind::DiscreteMamba2;
  const Tensor dt = discrete ? Tensor() : in.dt * where;
  const Tensor decay = discrete ? in.A * where : in.A * dt;
  const Tensor read = discrete ? x * where.unsqueeze(-1) : x;
  auto found = ssd_scan(read, decay, dt, in.B, in.C, start, kChunk);
  return {found.y, found.state};
}

}  // namespace

Tensor carried_change(const PatchPlace& place, const std::map<TapPoint, Tensor>& run,
                      const std::map<TapPoint, Tensor>& donor, const Tensor& t) {
  const ScanInputs own = inputs_of(place, run), other = inputs_of(place, donor);
  const Tensor position = at::arange(own.x.size(1), at::kLong).unsqueeze(0);
  const Tensor past = position.le(t.unsqueeze(1)).to(own.x.device()).unsqueeze(-1);
  const Tensor change =
      scan(place, other, other.x, past, {}).state - scan(place, own, own.x, past, {}).state;
  const Tensor after = past.logical_not();
  const Tensor y = scan(place, own, at::zeros_like(own.x), after, change).y;
  return y * (y.dim() == 4 ? after.unsqueeze(-1) : after);
}

}  // namespace headlens
