// headlens/cli: `inspect`: what a checkpoint is made of.
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/drawing.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "cli/zoo.h"
#include "headlens/core/checkpoint.h"
#include "headlens/hooks/recorder.h"
#include "headlens/model/families.h"
#include "headlens/model/site.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  int64_t batch = 1;
  int64_t length = 1024;
};

/// What is known of a checkpoint without reading its weights.
struct Description {
  ModelConfig config;
  std::vector<SiteInfo> sites;
  int64_t weight_bytes = 0;
  std::string fingerprint;
  double recording_bytes = 0;  // of every site; in double, as long prompts need more than 64 bits
  double map_bytes = 0;        // of those, what has a row and a column a token
};

std::string human_bytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string mlp_text(const LayerSpec& layer) {
  if (!layer.mlp) return "";
  return fmt::format("{}{} MLP of width {}", layer.mixer ? ", " : "",
                     layer.mlp->gated ? "gated" : "plain", layer.mlp->d_mlp);
}

/// The attention that a bank is the heads of; none for other kinds.
const AttentionSpec* attention_of(const LayerSpec& layer, const HeadBank& bank) {
  if (bank.kind != LayerKind::Attention) return nullptr;
  return layer.attention ? &*layer.attention : std::get_if<AttentionSpec>(&*layer.mixer);
}

/// "4 heads of width 12 (2 key/value heads)", after the kind or, beside another mixer, the numbers.
std::string bank_text(const LayerSpec& layer, const HeadBank& bank, bool numbered) {
  const bool channels = bank.kind == LayerKind::Mamba1;
  const std::string kind = layer_kind_name(bank.kind);
  std::string text =
      numbered ? fmt::format("{} {}..{} {}", channels ? "channels" : "heads", bank.first,
                             bank.first + bank.count - 1, kind)
               : fmt::format("{}, {} {}", kind, bank.count, channels ? "channels" : "heads");
  if (!channels) text += fmt::format(" of width {}", bank.width);
  if (const AttentionSpec* attention = attention_of(layer, bank)) {
    text += fmt::format(" ({} key/value heads)", attention->kv_heads);
  }
  return text;
}

std::string layer_text(const LayerSpec& layer) {
  const std::vector<HeadBank> banks = head_banks(layer);
  std::vector<std::string> parts;
  for (const HeadBank& bank : banks) parts.push_back(bank_text(layer, bank, banks.size() > 1));
  std::string text = fmt::format("{}", fmt::join(parts, ", ")) + mlp_text(layer);
  if (layer.wiring == Wiring::SharedBlock) text += ", attention and MLP of a shared block";
  return text;
}

/// Layers of one make-up, and their indices.
struct LayerGroup {
  std::string text;
  std::vector<int64_t> layers;
};

std::vector<LayerGroup> group_layers(const ModelConfig& config) {
  std::vector<LayerGroup> groups;
  for (int64_t i = 0; i < std::ssize(config.layers); ++i) {
    const std::string text = layer_text(config.layers[static_cast<size_t>(i)]);
    const auto same = std::find_if(groups.begin(), groups.end(),
                                   [&](const LayerGroup& group) { return group.text == text; });
    LayerGroup& group = same == groups.end() ? groups.emplace_back(LayerGroup{text, {}}) : *same;
    group.layers.push_back(i);
  }
  return groups;
}

std::string site_line(std::string_view name, const SiteInfo& site) {
  return fmt::format("  {:<34} {}\n", name, site.shape);
}

/// Sites of the whole model under their names, those of layers once for each kind of layer.
std::string sites_text(const Description& d) {
  std::string text = "sites (--json lists every one)\n";
  for (const SiteInfo& site : d.sites) {
    if (site.point.layer < 0) text += site_line(site.name, site);
  }
  for (const LayerGroup& group : group_layers(d.config)) {
    const int64_t first = group.layers.front();
    text += fmt::format("sites blocks.I. with I = {}\n", ranges_text(group.layers));
    const std::string prefix = fmt::format("blocks.{}.", first);
    for (const SiteInfo& site : d.sites) {
      if (site.point.layer == first) text += site_line(site.name.substr(prefix.size()), site);
    }
  }
  return text;
}

std::string description_text(const Description& d, const Flags& flags) {
  const ModelConfig& c = d.config;
  std::string text = fmt::format(
      "{} ({}): {} layers, d_model {}, vocabulary {}\nweights: {} in {}\n\n{}\nlayers\n", c.family,
      c.architecture, c.layers.size(), c.d_model, c.vocab_size,
      human_bytes(static_cast<double>(d.weight_bytes)), c.dtype,
      model_drawing(c, screen().unicode));
  for (const LayerGroup& group : group_layers(c)) {
    text += fmt::format("  {}: {}\n", ranges_text(group.layers), group.text);
  }
  text += sites_text(d);
  return text +
         fmt::format(
             "recording every site of {} x {} tokens: {}, of which {} in maps of pos x pos\n",
             flags.batch, flags.length, human_bytes(d.recording_bytes), human_bytes(d.map_bytes));
}

/// Sizes that only some mixers have.
struct MixerSizes {
  Json operator()(const AttentionSpec& a) const {
    Json sizes = {{"kv_heads", a.kv_heads}};
    if (a.window > 0) sizes["window"] = a.window;
    if (a.softcap > 0) sizes["softcap"] = a.softcap;
    return sizes;
  }
  Json operator()(const Mamba1Spec& m) const { return state_sizes(m.d_state, m.d_conv); }
  Json operator()(const Mamba2Spec& m) const { return state_sizes(m.d_state, m.d_conv, m.groups); }
  Json operator()(const DiscreteMamba2Spec& m) const {
    return state_sizes(m.d_state, m.d_conv, m.qk_heads);
  }
  static Json state_sizes(int64_t state, int64_t conv, int64_t groups = 0) {
    Json sizes = {{"d_state", state}, {"d_conv", conv}};
    if (groups > 0) sizes["groups"] = groups;
    return sizes;
  }
};

Json bank_json(const LayerSpec& layer, const HeadBank& bank) {
  Json out = {{"kind", layer_kind_name(bank.kind)}, {"heads", bank.count}, {"d_head", bank.width}};
  const AttentionSpec* attention = attention_of(layer, bank);
  if (attention != nullptr) {
    out.update(MixerSizes{}(*attention));
  } else if (layer.mixer) {
    out.update(std::visit(MixerSizes{}, *layer.mixer));
  }
  return out;
}

/// A layer of one mixer; of two, each with the number of its first head.
Json layer_json(const LayerSpec& layer) {
  const std::vector<HeadBank> banks = head_banks(layer);
  Json out = {{"kind", layer_kind_name(layer)}, {"heads", head_count(layer)}};
  if (banks.size() > 1) {
    for (const HeadBank& bank : banks) {
      out["mixers"].push_back(bank_json(layer, bank));
      out["mixers"].back()["first_head"] = bank.first;
    }
  } else {
    out.update(bank_json(layer, banks.empty() ? HeadBank() : banks.front()));
  }
  if (layer.mlp) out["d_mlp"] = layer.mlp->d_mlp;
  return out;
}

Json description_json(const Description& d, const Flags& flags) {
  Json out = {{"family", d.config.family},       {"architecture", d.config.architecture},
              {"d_model", d.config.d_model},     {"vocab_size", d.config.vocab_size},
              {"dtype", d.config.dtype},         {"weight_bytes", d.weight_bytes},
              {"fingerprint", d.fingerprint},    {"tied_embeddings", d.config.tied_embeddings},
              {"pattern", layer_strip(d.config)}};
  if (d.config.max_position > 0) out["max_position"] = d.config.max_position;
  if (d.config.embed_scale != 1) out["embed_scale"] = d.config.embed_scale;
  if (d.config.logit_scale != 1) out["logit_scale"] = d.config.logit_scale;
  if (d.config.logit_softcap > 0) out["logit_softcap"] = d.config.logit_softcap;
  for (const LayerSpec& layer : d.config.layers) out["layers"].push_back(layer_json(layer));
  for (const SiteInfo& site : d.sites) {
    out["sites"].push_back({{"name", site.name}, {"shape", site.shape}});
  }
  out["recording"] = {{"batch", flags.batch},
                      {"pos", flags.length},
                      {"bytes", d.recording_bytes},
                      {"map_bytes", d.map_bytes}};
  return out;
}

Description describe(const Flags& flags) {
  const Checkpoint checkpoint = Checkpoint::open(model_directory(flags.model));
  Description d;
  d.config =
      parse_model_config(checkpoint.config_json(), (checkpoint.path() / "config.json").string());
  d.sites = sites_of(d.config);
  d.weight_bytes = checkpoint.weight_bytes();
  d.fingerprint = checkpoint.fingerprint();
  const at::ScalarType dtype = chosen_dtype(flags.dtype).value_or(at::kFloat);
  for (const SiteInfo& site : d.sites) {
    const auto bytes = static_cast<double>(
        recording_bytes(d.config, {site.name}, flags.batch, flags.length, dtype));
    d.recording_bytes += bytes;
    if (site.dims.back() == "k") d.map_bytes += bytes;
  }
  return d;
}

int list_zoo(const Flags& flags, const std::vector<std::string>& group) {
  Json names = Json::array();
  std::string lines;
  for (const std::string& name : group) {
    names.push_back("zoo:" + name);
    lines += "zoo:" + name + "\n";
  }
  deliver(flags, names, lines);
  return 0;
}

int inspect(const Flags& flags) {
  check_range("--batch", flags.batch, 1, 1 << 16);
  check_range("--pos", flags.length, 1, 1 << 20);
  check_common_flags(flags);
  check_writable(flags.out);
  if (flags.model == "zoo:list") return list_zoo(flags, zoo_names());
  if (flags.model == "zoo:variants") return list_zoo(flags, zoo_variants());
  const Description d = describe(flags);
  deliver(flags, description_json(d, flags), description_text(d, flags));
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "inspect",
      "Family, layers, heads, sites and sizes; zoo:list lists the bundled models, "
      "zoo:variants those made for comparisons with them");
  add_common_flags(*command, *flags, "file for the result as JSON");
  command->add_option("--batch", flags->batch, "prompts of the predicted recording (default 1)");
  command->add_option("--pos", flags->length, "tokens of the predicted recording (default 1024)");
  command->callback([flags, &action] { action = [flags] { return inspect(*flags); }; });
}

}  // namespace headlens::cli
