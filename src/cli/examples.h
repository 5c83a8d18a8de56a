// headlens/cli: the examples at the end of each command's --help.
#pragma once

#include <string>
#include <vector>

namespace headlens::cli {

/// Whole command lines, as a shell takes them. Each works on the bundled models, writes below the
/// working directory only, and may read what the ones before it wrote.
const std::vector<std::string>& examples_of(const std::string& command);

/// "Examples:" and the lines; empty for a command without any.
std::string examples_text(const std::string& command);

}  // namespace headlens::cli
