// headlens/hooks: names of sites: canonical, TransformerLens's, MambaLens's, and globs over them.
#include "headlens/hooks/hook_name.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "core/check.h"
#include "core/glob.h"
#include "core/near_words.h"
#include "hooks/site_alias.h"

namespace headlens {
namespace {

constexpr std::string_view kBlocks = "blocks.";

/// A pattern taken apart: "blocks." layer "." rest, or, without a layer, the whole name.
struct Pattern {
  std::string text;                  // as the user wrote it
  std::optional<std::string> layer;  // a glob over layer numbers
  std::string rest;                  // a glob over what follows
  std::optional<int64_t> position;   // of a trailing hook_h.{pos}, which `rest` then ends before

  bool takes(int64_t in_layer, std::string_view name) const {
    if (layer) {
      return in_layer >= 0 && glob_match(*layer, std::to_string(in_layer)) &&
             glob_match(rest, name);
    }
    return glob_match(
        rest, in_layer < 0 ? std::string(name) : fmt::format("{}{}.{}", kBlocks, in_layer, name));
  }
};

/// `text` before and after the end of its layer number; a '.' inside [..] does not count.
size_t end_of_layer(std::string_view text) {
  bool in_set = false;
  for (size_t i = kBlocks.size(); i < text.size(); ++i) {
    if (text[i] == '[') in_set = true;
    if (text[i] == ']') in_set = false;
    if (text[i] == '.' && !in_set) return i;
  }
  return std::string_view::npos;
}

std::optional<int64_t> to_number(std::string_view digits) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  return whole && number >= 0 ? std::optional(number) : std::nullopt;
}

void take_position(Pattern& pattern) {
  constexpr std::string_view kState = "hook_h.";
  const size_t at = pattern.rest.rfind(kState);
  if (at == std::string::npos || (at > 0 && pattern.rest[at - 1] != '.')) return;
  pattern.position = to_number(std::string_view(pattern.rest).substr(at + kState.size()));
  if (pattern.position) pattern.rest.resize(at + kState.size() - 1);
}

Pattern parse_pattern(std::string_view text) {
  Pattern pattern{std::string(text), std::nullopt, std::string(text), std::nullopt};
  const size_t dot = text.starts_with(kBlocks) ? end_of_layer(text) : std::string_view::npos;
  if (dot != std::string_view::npos) {
    pattern.layer = std::string(text.substr(kBlocks.size(), dot - kBlocks.size()));
    pattern.rest = std::string(text.substr(dot + 1));
  }
  take_position(pattern);
  return pattern;
}

/// "a{b,c}d" -> "abd", "acd". An unclosed brace is literal.
std::vector<std::string> expand_braces(std::string_view text) {
  const size_t open = text.find('{');
  const size_t close = open == std::string_view::npos ? open : text.find('}', open);
  if (close == std::string_view::npos) return {std::string(text)};
  std::vector<std::string> all;
  size_t begin = open + 1;
  while (begin <= close) {
    const size_t end = std::min(text.find(',', begin), close);
    const std::string one = std::string(text.substr(0, open)) +
                            std::string(text.substr(begin, end - begin)) +
                            std::string(text.substr(close + 1));
    for (std::string& more : expand_braces(one)) all.push_back(std::move(more));
    begin = end + 1;
  }
  return all;
}

/// A canonical name without its "blocks.{i}.".
std::string_view bare_name(const SiteInfo& info) {
  const std::string_view name = info.name;
  return info.point.layer < 0 ? name : name.substr(end_of_layer(name) + 1);
}

const LayerSpec& layer_of(const ModelConfig& config, TapPoint point) {
  return config.layers[static_cast<size_t>(point.layer)];
}

/// How many copies HeadCopies makes; 0 where the layer has no attention.
int64_t copies_of(std::string_view alias, const LayerSpec& layer) {
  const AttentionSpec* spec = layer.mixer ? std::get_if<AttentionSpec>(&*layer.mixer) : nullptr;
  if (layer.attention) spec = &*layer.attention;
  if (spec == nullptr) return 0;
  return alias == "hook_k_input" || alias == "hook_v_input" ? spec->kv_heads : spec->heads;
}

/// The aliases of one site that exist in this model and that the pattern takes.
void add_aliases(const Pattern& pattern, const ModelConfig& config, const SiteInfo& info,
                 std::vector<NamedSite>& out) {
  for (const AliasRow& row : alias_table()) {
    const bool in_layer = row.scope != AliasScope::WholeModel;
    if (row.site != info.point.site || !pattern.takes(info.point.layer, row.alias)) continue;
    if (in_layer && !alias_fits(row.scope, layer_of(config, info.point))) continue;
    if ((row.view == SiteView::Position) != pattern.position.has_value()) continue;
    NamedSite named{std::string(row.alias), info.point, row.view, pattern.position.value_or(0)};
    if (row.view == SiteView::HeadCopies) {
      named.extra = copies_of(row.alias, layer_of(config, info.point));
      if (named.extra == 0) continue;
    }
    if (row.view == SiteView::BranchInput && row.alias != "ln2.hook_in" &&
        row.alias != "hook_mlp_in" && !layer_of(config, info.point).mixer) {
      continue;  // there is no first branch to read it
    }
    if (in_layer) named.name = fmt::format("{}{}.{}", kBlocks, info.point.layer, row.alias);
    if (pattern.position) named.name += fmt::format(".{}", *pattern.position);
    out.push_back(std::move(named));
  }
}

std::vector<NamedSite> match(const Pattern& pattern, const ModelConfig& config,
                             const std::vector<SiteInfo>& sites) {
  std::vector<NamedSite> out;
  if (!pattern.position) {
    for (const SiteInfo& info : sites) {
      if (pattern.takes(info.point.layer, bare_name(info))) {
        out.push_back({info.name, info.point, SiteView::Whole, 0});
      }
    }
  }
  if (!out.empty()) return out;
  for (const SiteInfo& info : sites) add_aliases(pattern, config, info, out);
  return out;
}

/// Levenshtein's distance.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t corner = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = corner + (a[i - 1] == b[j - 1] ? 0 : 1);
      corner = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

/// Every bare name there is, of any kind of model.
std::vector<std::string> general_names(bool in_layer) {
  std::vector<std::string> names;
  for (int i = 0; i < static_cast<int>(Site::kCount); ++i) {
    const std::string name = site_name({static_cast<Site>(i), 0});
    if (name.starts_with(kBlocks) != in_layer) continue;
    names.push_back(in_layer ? name.substr(end_of_layer(name) + 1) : name);
  }
  for (const AliasRow& row : alias_table()) {
    if ((row.scope != AliasScope::WholeModel) == in_layer) names.emplace_back(row.alias);
  }
  return names;
}

/// The nearest name of this model, put where the pattern has its own; empty if none is near.
std::string suggestion(const Pattern& pattern, const ModelConfig& config,
                       const std::vector<SiteInfo>& sites) {
  std::vector<NamedSite> here;
  const Pattern anything{"", std::nullopt, "*", std::nullopt};
  for (const SiteInfo& info : sites) {
    here.push_back({info.name, info.point, SiteView::Whole, 0});
    add_aliases(anything, config, info, here);
  }
  std::string best;
  size_t best_distance = std::max<size_t>(3, pattern.text.size() / 4) + 1;
  std::set<std::string> seen;
  for (const NamedSite& named : here) {
    std::string name = named.name;
    if (pattern.layer && named.point.layer >= 0) {
      name = fmt::format("{}{}.{}", kBlocks, *pattern.layer, name.substr(end_of_layer(name) + 1));
    }
    if (!seen.insert(name).second) continue;
    const size_t far = distance(pattern.text, name);
    if (far < best_distance) best_distance = far, best = name;
  }
  return best;
}

/// "attention, mamba2": the kinds of layers among those the pattern's layer part takes.
std::string kinds_taken(const Pattern& pattern, const ModelConfig& config) {
  std::set<std::string> kinds;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (pattern.layer && !glob_match(*pattern.layer, std::to_string(i))) continue;
    const std::vector<HeadBank> banks = head_banks(config.layers[i]);
    for (const HeadBank& bank : banks) kinds.insert(layer_kind_name(bank.kind));
    if (banks.empty()) kinds.insert(layer_kind_name(LayerKind::None));
  }
  return fmt::format("{}", fmt::join(kinds, ", "));
}

bool takes_a_layer(const Pattern& pattern, const ModelConfig& config) {
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (glob_match(*pattern.layer, std::to_string(i))) return true;
  }
  return false;
}

/// Where the layers keep their map, if that is what the pattern was after.
std::string map_hint(const Pattern& pattern, const ModelConfig& config) {
  const bool softmax = pattern.rest == "attn.hook_pattern";
  if (!softmax && pattern.rest != "mixer.hook_map") return "";
  const bool has_ssm = std::any_of(config.layers.begin(), config.layers.end(), [](const auto& l) {
    return layer_kind(l) != LayerKind::Attention && layer_kind(l) != LayerKind::None;
  });
  if (softmax != has_ssm) return "";
  return fmt::format("; the map of these layers is {}",
                     softmax ? "mixer.hook_map" : "attn.hook_pattern");
}

[[noreturn]] void fail_unmatched(const Pattern& pattern, const ModelConfig& config,
                                 const std::vector<SiteInfo>& sites) {
  HEADLENS_CHECK(HookError, !pattern.layer || takes_a_layer(pattern, config),
                 "[hooks] layer of '{}', expected 0 to {}, got {}", pattern.text,
                 static_cast<int64_t>(config.layers.size()) - 1, *pattern.layer);
  if (!pattern.position) {
    for (const UnmatchedName& row : unmatched_names()) {
      HEADLENS_CHECK(HookError, !glob_match(row.name, pattern.rest),
                     "[hooks] '{}', expected a single tensor, got none here: {}", pattern.text,
                     row.instead);
    }
  }
  for (const std::string& name : general_names(pattern.layer.has_value())) {
    HEADLENS_CHECK(HookError, !glob_match(pattern.rest, name),
                   "[hooks] site '{}', expected one of this model's, got a name that its layers "
                   "({}) do not have{}",
                   pattern.text, kinds_taken(pattern, config), map_hint(pattern, config));
  }
  const std::string near = suggestion(pattern, config, sites);
  HEADLENS_FAIL(HookError, "[hooks] hook name, expected a site of this model{}, got '{}'",
                near.empty() ? "" : fmt::format(" (did you mean '{}'?)", near), pattern.text);
}

/// Could the pattern name a site in layers of another kind? (Else it is a mistake.)
bool is_known(const Pattern& pattern, const ModelConfig& config) {
  if (pattern.layer && !takes_a_layer(pattern, config)) return false;
  const std::vector<std::string> names = general_names(pattern.layer.has_value());
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return glob_match(pattern.rest, name); });
}

/// Position of each point in the order of firing.
size_t firing_index(const std::vector<SiteInfo>& sites, TapPoint point) {
  const auto found = std::find_if(sites.begin(), sites.end(),
                                  [&](const SiteInfo& info) { return info.point == point; });
  return static_cast<size_t>(found - sites.begin());
}

}  // namespace

std::vector<NamedSite> resolve_names(std::string_view pattern, const ModelConfig& config) {
  const std::vector<SiteInfo> sites = sites_of(config);
  std::vector<NamedSite> all;
  const std::vector<std::string> alternatives = expand_braces(pattern);
  for (const std::string& one : alternatives) {
    const Pattern parsed = parse_pattern(one);
    std::vector<NamedSite> matched = match(parsed, config, sites);
    if (matched.empty() && !is_known(parsed, config)) fail_unmatched(parsed, config, sites);
    for (NamedSite& named : matched) {
      if (std::find(all.begin(), all.end(), named) == all.end()) all.push_back(std::move(named));
    }
  }
  if (all.empty()) fail_unmatched(parse_pattern(alternatives.front()), config, sites);
  if (alternatives.size() > 1) {
    std::stable_sort(all.begin(), all.end(), [&](const NamedSite& a, const NamedSite& b) {
      return firing_index(sites, a.point) < firing_index(sites, b.point);
    });
  }
  return all;
}

std::vector<TapPoint> resolve_sites(std::string_view pattern, const ModelConfig& config) {
  std::vector<TapPoint> points;
  for (const NamedSite& named : resolve_names(pattern, config)) {
    if (std::find(points.begin(), points.end(), named.point) == points.end()) {
      points.push_back(named.point);
    }
  }
  return points;
}

std::vector<SiteAlias> site_aliases() {
  std::vector<SiteAlias> all;
  for (const AliasRow& row : alias_table()) {
    std::string canonical = site_name({row.site, 0});
    std::string alias(row.alias);
    if (row.scope != AliasScope::WholeModel) {
      alias.insert(0, "blocks.{i}.");
      canonical = "blocks.{i}." + canonical.substr(end_of_layer(canonical) + 1);
    }
    if (row.view == SiteView::Position) alias += ".{pos}";
    all.push_back({std::move(alias), std::move(canonical), row.view});
  }
  return all;
}

}  // namespace headlens
