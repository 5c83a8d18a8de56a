// headlens/cli: the commands, one file each.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>

namespace headlens::cli {

/// What a chosen command does when flags are parsed; returns the exit status.
using Action = std::function<int()>;

/// Each adds its subcommand to `app` and sets `action` when it is the one chosen.
void add_inspect(CLI::App& app, Action& action);
void add_tokenize(CLI::App& app, Action& action);
void add_run(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_map(CLI::App& app, Action& action);
void add_task(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_find(CLI::App& app, Action& action);
void add_ablate(CLI::App& app, Action& action);
void add_attribute(CLI::App& app, Action& action);
void add_circuit(CLI::App& app, Action& action);
void add_patch(CLI::App& app, Action& action);
void add_prune(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_graft(CLI::App& app, Action& action);
void add_reproduce(CLI::App& app, Action& action);
void add_compare(CLI::App& app, Action& action);
void add_scores(CLI::App& app, Action& action);

/// Runs the whole command: parses, acts, prints one line for an error. 0 done, 1 failed, 2 wrong
/// use.
int run(int argc, const char* const* argv);

/// For std::set_terminate: what no catch takes (an error of a thread, or one in a destructor while
/// another is under way) is one line and status 1 as well.
[[noreturn]] void end_on_terminate();

/// The last thing before `main` returns `status`: ends the process here where a GPU that is gone
/// would make more of it than that.
void leave(int status);

}  // namespace headlens::cli
