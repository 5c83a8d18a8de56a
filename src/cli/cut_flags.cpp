// headlens/cli: heads and MLPs to switch off, as several commands name them.
#include "cli/cut_flags.h"

#include <ATen/ATen.h>

#include "cli/common.h"
#include "cli/heads.h"
#include "core/check.h"
#include "headlens/hooks/interventions.h"
#include "headlens/hooks/mlp_intervention.h"

namespace headlens::cli {
namespace {

/// Whole layers as ranges of heads. UsageError for a layer that is not there or has none.
std::vector<HeadId> heads_of_layers(const ModelConfig& config, const std::vector<int64_t>& layers) {
  std::vector<HeadId> heads;
  for (const int64_t layer : layers) {
    check_range("--layers", layer, 0, std::ssize(config.layers) - 1);
    const int64_t count = head_count(config.layers[static_cast<size_t>(layer)]);
    HEADLENS_CHECK(UsageError, count > 0, "[ablate] --layers, expected one with heads, got {}",
                   layer);
    heads.push_back({layer, 0, count - 1});
  }
  return heads;
}

/// The other heads of the layers that `heads` name.
std::vector<HeadId> others(const ModelConfig& config, const std::vector<HeadId>& heads) {
  std::vector<HeadGroup> kept;
  for (const HeadId& head : heads) kept.push_back({head.layer, head.first, head.last});
  std::vector<HeadId> cut;
  for (const HeadGroup& other : other_heads(config, kept)) {
    cut.push_back({other.layer, other.first, other.last});
  }
  return cut;
}

/// What takes the place of outputs that are cut.
HeadReplacement replacement_of(const SweepOptions& options) {
  const double factor = options.mode == AblationMode::Scale ? options.factor : 0;
  return [factor](const Tensor& outputs, TapPoint) { return outputs * factor; };
}

}  // namespace

void add_cut_flags(CLI::App& command, CutFlags& flags) {
  add_heads_flag(command, flags.heads);
  command.add_option("--layers", flags.layers, "all heads of these layers, comma-separated")
      ->delimiter(',');
  command.add_option("--mlp", flags.mlps, "the MLPs of these layers, comma-separated")
      ->delimiter(',');
  command.add_flag("--keep", flags.keep,
                   "keep these heads and switch off the others of their layers");
}

void check_cut_flags(const char* command, const CutFlags& flags) {
  HEADLENS_CHECK(UsageError, flags.names_heads() || !flags.keep,
                 "[{}] --keep, expected with --heads or --layers, got it alone", command);
}

std::vector<HeadId> cut_heads(const ModelConfig& config, const CutFlags& flags) {
  std::vector<HeadId> heads = parse_heads(flags.heads);
  const auto of_layers = heads_of_layers(config, flags.layers);
  heads.insert(heads.end(), of_layers.begin(), of_layers.end());
  check_heads_exist(config, heads);
  return flags.keep ? others(config, heads) : heads;
}

SweepTarget cut_target(const ModelConfig& config, const CutFlags& flags) {
  SweepTarget target;
  target.heads = cut_heads(config, flags);
  for (const int64_t layer : flags.mlps) {
    check_range("--mlp", layer, 0, std::ssize(config.layers) - 1);
    HEADLENS_CHECK(UsageError, config.layers[static_cast<size_t>(layer)].mlp.has_value(),
                   "[ablate] --mlp, expected a layer with an MLP, got {}", layer);
    target.mlps.push_back(layer);
  }
  return target;
}

void add_writing_cut_flags(CLI::App& command, WritingCutFlags& flags) {
  add_cut_flags(command, flags);
  command.add_option("--mode", flags.mode,
                     "of what is cut: zero, or scale:F, its output times F (default zero)");
  command.add_option("--placement", flags.placement,
                     "post_norm or pre_norm, for Mamba-2 (default post_norm)");
}

SweepOptions cut_options(const char* command, const WritingCutFlags& flags) {
  check_cut_flags(command, flags);
  const bool cuts = flags.names_heads() || !flags.mlps.empty();
  HEADLENS_CHECK(UsageError, cuts || (flags.mode == "zero" && flags.placement == "post_norm"),
                 "[{}] --mode and --placement, expected with --heads, --layers or --mlp, got none",
                 command);
  AblationFlags ablation;
  ablation.mode = flags.mode, ablation.placement = flags.placement;
  SweepOptions options = sweep_options(ablation);
  HEADLENS_CHECK(UsageError,
                 options.mode == AblationMode::Zero || options.mode == AblationMode::Scale,
                 "[{}] --mode, expected zero or scale:F (there is no task to take other "
                 "outputs from), got '{}'",
                 command, flags.mode);
  return options;
}

void add_cuts(const LanguageModel& model, const CutFlags& flags, const SweepOptions& options,
              HookSet& hooks) {
  const ModelConfig& config = model.config();
  const SweepTarget target = cut_target(config, flags);
  HeadList heads;
  for (const HeadId& head : target.heads) heads.push_back({head.layer, head.first, head.last});
  if (flags.names_heads()) {
    hooks.add(std::make_shared<HeadIntervention>(config, cuts_of(heads), replacement_of(options),
                                                 HeadCutOptions{.placement = options.placement}));
  }
  if (target.mlps.empty()) return;
  std::map<int64_t, std::vector<bool>> mlps;
  for (const int64_t layer : target.mlps) mlps[layer] = {true};
  hooks.add(std::make_shared<MlpIntervention>(config, std::move(mlps), replacement_of(options)));
}

}  // namespace headlens::cli
