// headlens/cli: the bundled models.
#include "cli/zoo.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>

#include "core/check.h"

#ifndef HEADLENS_ZOO_SOURCE_DIR
#define HEADLENS_ZOO_SOURCE_DIR ""
#endif

namespace headlens::cli {
namespace fs = std::filesystem;

fs::path zoo_directory() {
  if (const char* chosen = std::getenv("HEADLENS_ZOO")) return chosen;
  std::error_code ignored;
  const fs::path command = fs::read_symlink("/proc/self/exe", ignored);
  const fs::path installed = command.parent_path().parent_path() / "share" / "headlens" / "zoo";
  if (!command.empty() && fs::is_directory(installed, ignored)) return installed;
  const fs::path source = HEADLENS_ZOO_SOURCE_DIR;
  return fs::is_directory(source, ignored) ? source : fs::path();
}

std::vector<std::string> zoo_names() {
  std::vector<std::string> names;
  const fs::path zoo = zoo_directory();
  std::error_code ignored;
  if (zoo.empty() || !fs::is_directory(zoo, ignored)) return names;
  for (const auto& entry : fs::directory_iterator(zoo)) {
    if (fs::exists(entry.path() / "config.json")) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

fs::path zoo_model(const std::string& name) {
  const std::vector<std::string> names = zoo_names();
  HEADLENS_CHECK(UsageError, std::find(names.begin(), names.end(), name) != names.end(),
                 "[zoo] model, expected one of {}, got '{}'", fmt::join(names, ", "), name);
  return zoo_directory() / name;
}

}  // namespace headlens::cli
