// headlens/cli: what the word at the cursor could become, for shells.
#include "cli/completions.h"

#include <algorithm>
#include <map>
#include <set>

#include "cli/claims.h"
#include "cli/common.h"
#include "cli/zoo.h"
#include "core/json_fields.h"
#include "headlens/model/families.h"
#include "headlens/model/site.h"
#include "headlens/tasks/generative.h"

namespace headlens::cli {
namespace {

using Words = std::vector<std::string>;

/// Flags whose value is one word of few.
const std::map<std::string, Words>& fixed_values() {
  static const std::map<std::string, Words> kValues = {
      {"--device", {"cpu", "cuda", "cuda:0", "cuda:1"}},
      {"--dtype", {"float32", "bfloat16", "float16", "float64"}},
      {"--color", {"auto", "always", "never"}},
      {"--mode", {"zero", "mean", "resample", "scale:"}},
      {"--placement", {"post_norm", "pre_norm"}},
      {"--direction", {"denoising", "noising"}},
      {"--corrupt", {"given", "swap", "example"}},
      {"--measure", {"accuracy", "logprob"}},
      {"--scope", {"model", "layers"}},
      {"--inputs", {"all", "keys_values", "queries"}},
      {"--site", {"resid", "attn_out", "mlp_out", "z", "pattern", "map", "state"}},
      {"--segments", {"all"}},
      {"SHELL", {"bash", "zsh", "fish"}}};
  return kValues;
}

bool is_one_of(const std::string& name, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](const char* n) { return name == n; });
}

Words model_words() {
  Words words;
  for (const std::string& name : zoo_names()) words.push_back("zoo:" + name);
  for (const std::string& name : zoo_variants()) words.push_back("zoo:" + name);
  return words;
}

/// "kv:" while the name is written; after the colon the parameters that are not yet there.
Words task_words(const std::string& word) {
  Words specs = known_tasks(), words;
  for (const std::string& name : known_generative_tasks()) specs.push_back(name);
  const size_t colon = word.find(':');
  for (const std::string& spec : specs) {
    const std::string name = spec.substr(0, std::min(spec.find(':'), spec.size()));
    if (colon == std::string::npos) words.push_back(name + ":");
    if (colon == std::string::npos || word.substr(0, colon) != name) continue;
    const std::string written = word.substr(0, word.find_last_of(":,") + 1);
    for (size_t at = name.size(); at < spec.size();) {
      const size_t end = std::min(spec.find(',', at + 1), spec.size());
      const std::string param = spec.substr(at + 1, end - at - 1);
      const std::string key = param.substr(0, param.find('=') + 1);
      if (!key.empty() && written.find(key) == std::string::npos) words.push_back(written + key);
      at = end;
    }
  }
  return words;
}

/// Each site of a layer once for all layers, until a layer's number is begun.
Words site_words(const std::string& model, const std::string& word) {
  constexpr std::string_view kBlocks = "blocks.";
  const std::string where = (model_directory(model) / "config.json").string();
  const bool numbered = word.size() > kBlocks.size() && word.starts_with(kBlocks) &&
                        std::isdigit(static_cast<unsigned char>(word[kBlocks.size()])) != 0;
  std::set<std::string> words;
  for (const SiteInfo& site : sites_of(parse_model_config(read_text_file(where), where))) {
    const bool in_layer = site.point.layer >= 0;
    const size_t dot = in_layer ? site.name.find('.', kBlocks.size()) : 0;
    words.insert(in_layer && !numbered ? "blocks.*" + site.name.substr(dot) : site.name);
  }
  return {words.begin(), words.end()};
}

/// The flag of that name; nullptr for a word that is none.
const CLI::Option* flag_of(const CLI::App& command, const std::string& word) {
  return word.starts_with("--") ? command.get_option_no_throw(word) : nullptr;
}

/// What stands before the cursor: the words that are no flags or their values, and the flag whose
/// value the last word is.
struct Place {
  Words arguments;
  std::string flag;
};

Place place_of(const CLI::App& command, const Words& words) {
  Place place;
  for (size_t i = 1; i + 1 < words.size(); ++i) {
    const CLI::Option* option = flag_of(command, words[i]);
    place.flag.clear();
    if (option == nullptr) {
      if (!words[i].starts_with("--")) place.arguments.push_back(words[i]);
    } else if (option->get_expected_min() > 0) {
      if (i + 2 == words.size()) place.flag = words[i];
      ++i;
    }
  }
  return place;
}

/// The name of the argument that would come next, "MODEL"; empty if none would.
std::string next_argument(const CLI::App& command, size_t given) {
  Words names;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_positional()) names.push_back(option->get_name(true));
  }
  if (names.empty() || (given >= names.size() && names.back() != "CLAIM")) return {};
  return names[std::min(given, names.size() - 1)];
}

Words values_of(const std::string& name, const Place& place, const std::string& word) {
  const auto fixed = fixed_values().find(name);
  if (fixed != fixed_values().end()) return fixed->second;
  if (is_one_of(name, {"MODEL", "MODEL_B", "--from", "--models"})) return model_words();
  if (is_one_of(name, {"TASK", "--task", "--against", "--knowledge", "--train-task", "--retrieval",
                       "--related"})) {
    return task_words(word);
  }
  if (name == "--record" && !place.arguments.empty()) {
    return site_words(place.arguments.front(), word);
  }
  Words claims;
  for (const Claim& claim : all_claims()) claims.push_back(claim.id);
  return name == "CLAIM" ? claims : Words{};
}

Words candidates(const CLI::App& app, const Words& words) {
  Words found;
  if (words.size() < 2) {
    for (const CLI::App* command : app.get_subcommands(nullptr))
      found.push_back(command->get_name());
    return found;
  }
  const auto named =
      app.get_subcommands([&](const CLI::App* each) { return each->get_name() == words.front(); });
  if (named.empty()) return {};
  const CLI::App* command = named.front();
  const Place place = place_of(*command, words);
  if (!place.flag.empty()) return values_of(place.flag, place, words.back());
  if (!words.back().starts_with("-")) {
    return values_of(next_argument(*command, place.arguments.size()), place, words.back());
  }
  for (const CLI::Option* option : command->get_options()) {
    for (const std::string& name : option->get_lnames()) found.push_back("--" + name);
  }
  return found;
}

}  // namespace

std::vector<std::string> completions(const CLI::App& app, const Words& words) {
  Words found;
  try {
    found = candidates(app, words);
  } catch (const std::exception&) {
    return {};  // a model that cannot be read: the command itself will say so
  }
  const std::string last = words.empty() ? "" : words.back();
  std::erase_if(found, [&](const std::string& word) { return !word.starts_with(last); });
  return found;
}

}  // namespace headlens::cli
