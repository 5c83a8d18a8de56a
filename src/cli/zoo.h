// headlens/cli: the bundled models.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace headlens::cli {

/// The folder of the bundled models: $HEADLENS_ZOO, else share/headlens/zoo beside the installed
/// command, else the source tree's examples/zoo. It need not be there.
std::filesystem::path zoo_directory();

/// Names of the bundled models, sorted. ConfigError if there is none.
std::vector<std::string> zoo_names();

/// Names of the variants, models made for comparisons with one of those (zoo/variants); sorted, and
/// there may be none.
std::vector<std::string> zoo_variants();

/// The directory of a bundled model or variant. UsageError naming the known ones for another name.
std::filesystem::path zoo_model(const std::string& name);

}  // namespace headlens::cli
