// headlens/cli: what the word at the cursor could become, for shells.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "cli/commands.h"

namespace headlens::cli {

/// `completion SHELL`, as commands.h has the other commands.
void add_completion(CLI::App& app, Action& action);

/// Everything that the last of `words` (those after "headlens") could become: commands, flags,
/// values of flags that take a word of few, models, tasks with their parameters, and the sites of
/// the model that is named. Empty where files are meant, or nothing is known. Loads no weights.
std::vector<std::string> completions(const CLI::App& app, const std::vector<std::string>& words);

}  // namespace headlens::cli
