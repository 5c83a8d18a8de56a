// headlens/cli: where numbers stop being numbers.
#include "cli/not_finite.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "core/check.h"
#include "headlens/core/checkpoint.h"

namespace headlens::cli {
namespace {

bool is_finite(const Tensor& x) {
  return !x.is_floating_point() || at::isfinite(x).all().item<bool>();
}

/// Looks at what a forward makes, but for maps, until something is not finite.
class FirstNotFinite final : public Tap {
 public:
  bool wants(TapPoint point) const override {
    constexpr Site kSites[] = {Site::Embed,  Site::ResidPre,        Site::Z,      Site::AttnOut,
                               Site::Dt,     Site::SsmOut,          Site::MixerZ, Site::MixerOut,
                               Site::MlpOut, Site::FinalNormalized, Site::Logits};
    return std::find(std::begin(kSites), std::end(kSites), point.site) != std::end(kSites);
  }
  Tensor visit(TapPoint point, Tensor value) override {
    if (name.empty() && !is_finite(value)) name = site_name(point);
    return value;
  }
  std::string name;
};

/// The first weight of the files that is not finite; empty if all are.
std::string bad_weight(const LoadedModel& loaded) {
  const Checkpoint checkpoint = Checkpoint::open(loaded.directory);
  for (const std::string& name : checkpoint.names()) {
    if (!is_finite(checkpoint.tensor(name))) return name;
  }
  return {};
}

}  // namespace

void check_finite(const LoadedModel& loaded, const Tensor& ids) {
  const c10::NoGradGuard no_grad;
  const Tensor last = at::full({ids.size(0), 1}, ids.size(1) - 1, at::kLong);
  if (is_finite(loaded.model.forward(ids, {.logit_positions = last}))) return;
  const bool has_files = !loaded.model.fingerprint().starts_with("random-");
  const std::string weight = has_files ? bad_weight(loaded) : std::string();
  HEADLENS_CHECK(CheckpointError, weight.empty(),
                 "[{}] tensor '{}', expected finite numbers, got NaN or infinity among them",
                 loaded.directory.string(), weight);
  FirstNotFinite tap;
  loaded.model.forward(ids, {.tap = &tap, .logit_positions = last});
  HEADLENS_FAIL(Error,
                "[model] {} of the first prompt, expected finite numbers, got NaN or infinity in "
                "{} (try --dtype float32)",
                tap.name.empty() ? "logits" : tap.name, dtype_name(loaded.model.dtype()));
}

}  // namespace headlens::cli
