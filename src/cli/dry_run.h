// headlens/cli: --dry-run: what a command would run, how long it would take and what it would hold.
#pragma once

#include <CLI/CLI.hpp>

namespace headlens::cli {

/// --dry-run of every command that runs a model.
void add_dry_run_flags(CLI::App& app);
/// Was it given to this command?
bool is_dry_run(const CLI::App& command);

/// Prints the plan of the command that was parsed; loads its config and tokenizer and makes its
/// prompts, but reads no weights. Errors as those of the command for a model, a task and a text.
int dry_run(const CLI::App& command);

}  // namespace headlens::cli
