// headlens/cli: `inspect`: what a checkpoint is made of.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/zoo.h"
#include "headlens/core/checkpoint.h"
#include "headlens/model/families.h"
#include "headlens/model/site.h"

namespace headlens::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Flags : CommonFlags {
  int64_t batch = 1;
  int64_t length = 1024;
};

std::string human_bytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string mlp_text(const LayerSpec& layer) {
  if (!layer.mlp) return "";
  return fmt::format("{}{} MLP, width {}", layer.mixer ? ", " : "",
                     layer.mlp->gated ? "gated" : "plain", layer.mlp->d_mlp);
}

std::string layer_text(const LayerSpec& layer) {
  std::string text;
  if (layer.mixer) {
    text = fmt::format(
        "{}, {} {} of width {}", layer_kind_name(layer_kind(layer)), head_count(layer),
        layer_kind(layer) == LayerKind::Mamba1 ? "channels" : "heads", head_width(layer));
  }
  if (const auto* attention = layer.mixer ? std::get_if<AttentionSpec>(&*layer.mixer) : nullptr) {
    text += fmt::format(" ({} key/value heads)", attention->kv_heads);
  }
  return text + mlp_text(layer);
}

Json layer_json(const LayerSpec& layer) {
  Json out = {{"kind", layer_kind_name(layer_kind(layer))},
              {"heads", head_count(layer)},
              {"d_head", head_width(layer)}};
  if (layer.mlp) out["d_mlp"] = layer.mlp->d_mlp;
  return out;
}

/// Bytes of recording every site of a prompt at float32, and of all sites but those of size pos x
/// pos.
struct RecordingBytes {
  double all = 0;
  double without_maps = 0;
};

RecordingBytes recording_bytes_of(const ModelConfig& config, const std::vector<SiteInfo>& sites,
                                  const Flags& flags) {
  constexpr double kFloatBytes = 4;
  RecordingBytes bytes;
  for (const SiteInfo& site : sites) {
    const double size = kFloatBytes * static_cast<double>(site_numel(config, site.point,
                                                                     flags.batch, flags.length));
    bytes.all += size;
    const Site s = site.point.site;
    if (s != Site::AttnScores && s != Site::Pattern && s != Site::Map) bytes.without_maps += size;
  }
  return bytes;
}

int inspect(const Flags& flags) {
  if (flags.model == "zoo:list") {
    for (const std::string& name : zoo_names()) print("zoo:" + name + "\n");
    return 0;
  }
  const Checkpoint checkpoint = Checkpoint::open(model_directory(flags.model));
  const ModelConfig config =
      parse_model_config(checkpoint.config_json(), (checkpoint.path() / "config.json").string());
  const std::vector<SiteInfo> sites = sites_of(config);
  const RecordingBytes recording = recording_bytes_of(config, sites, flags);
  if (flags.json) {
    Json out = {{"family", config.family},
                {"architecture", config.architecture},
                {"d_model", config.d_model},
                {"vocab_size", config.vocab_size},
                {"dtype", config.dtype},
                {"weight_bytes", checkpoint.weight_bytes()},
                {"fingerprint", checkpoint.fingerprint()}};
    for (const LayerSpec& layer : config.layers) out["layers"].push_back(layer_json(layer));
    for (const SiteInfo& site : sites)
      out["sites"].push_back({{"name", site.name}, {"shape", site.shape}});
    out["recording"] = {{"batch", flags.batch},
                        {"pos", flags.length},
                        {"bytes", recording.all},
                        {"bytes_without_maps", recording.without_maps}};
    print(out.dump(2) + "\n");
    return 0;
  }
  print(fmt::format("{} ({}), {} layers, d_model {}, vocabulary {}, weights {} in {}\n",
                    config.family, config.architecture, config.layers.size(), config.d_model,
                    config.vocab_size, human_bytes(static_cast<double>(checkpoint.weight_bytes())),
                    config.dtype));
  for (size_t i = 0; i < config.layers.size(); ++i)
    print(fmt::format("  {:>3}  {}\n", i, layer_text(config.layers[i])));
  print("sites\n");
  for (const SiteInfo& site : sites) print(fmt::format("  {:<42} {}\n", site.name, site.shape));
  print(fmt::format(
      "recording every site of {} x {} tokens in float32: {}, of which maps of pos x pos {}\n",
      flags.batch, flags.length, human_bytes(recording.all),
      human_bytes(recording.all - recording.without_maps)));
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Family, layers, heads, sites and sizes; zoo:list lists the zoo");
  add_common_flags(*command, *flags);
  command->add_option("--batch", flags->batch, "prompts of the predicted recording (default 1)");
  command->add_option("--pos", flags->length, "tokens of the predicted recording (default 1024)");
  command->callback([flags, &action] { action = [flags] { return inspect(*flags); }; });
}

}  // namespace headlens::cli
