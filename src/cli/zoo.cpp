// headlens/cli: the bundled models.
#include "cli/zoo.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>

#include "core/check.h"
#include "core/near_words.h"
#include "tasks/task_spec.h"

#ifndef HEADLENS_ZOO_SOURCE_DIR
#define HEADLENS_ZOO_SOURCE_DIR ""
#endif

namespace headlens::cli {
namespace fs = std::filesystem;

fs::path zoo_directory() {
  if (const char* chosen = std::getenv("HEADLENS_ZOO")) return chosen;
  std::error_code ignored;
  const fs::path command = fs::read_symlink("/proc/self/exe", ignored);
  fs::path installed = command.parent_path().parent_path() / "share" / "headlens" / "zoo";
  if (!command.empty() && fs::is_directory(installed, ignored)) return installed;
  return HEADLENS_ZOO_SOURCE_DIR;
}

namespace {

/// Folders that hold a model, sorted.
std::vector<std::string> models_in(const fs::path& folder, std::error_code& error) {
  std::vector<std::string> names;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const fs::path& model = entry->path();
    std::error_code ignored;
    if (fs::exists(model / "config.json", ignored)) names.push_back(model.filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool among(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::vector<std::string> zoo_names() {
  const fs::path zoo = zoo_directory();
  std::error_code error;
  std::vector<std::string> names = models_in(zoo, error);
  HEADLENS_CHECK(ConfigError, !names.empty(),
                 "[zoo] {}, expected bundled models (HEADLENS_ZOO names their folder), got {}",
                 zoo.string(), error ? error.message() : "none");
  return names;
}

std::vector<std::string> zoo_variants() {
  std::error_code ignored;
  return models_in(zoo_directory() / "variants", ignored);
}

namespace {

/// Variants are found by their names, and so are slips of theirs.
std::vector<std::string> all_names() {
  std::vector<std::string> names = zoo_names();
  const std::vector<std::string> variants = zoo_variants();
  names.insert(names.end(), variants.begin(), variants.end());
  return names;
}

}  // namespace

fs::path zoo_model(const std::string& name) {
  const std::vector<std::string> names = zoo_names();
  if (among(zoo_variants(), name)) return zoo_directory() / "variants" / name;
  HEADLENS_CHECK(UsageError, among(names, name), "[zoo] model, expected one of {}, got '{}'{}",
                 fmt::join(names, ", "), name, suggestion(name, all_names()));
  return zoo_directory() / name;
}

}  // namespace headlens::cli
