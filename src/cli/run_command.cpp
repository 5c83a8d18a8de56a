// headlens/cli: parsing, dispatch, and one line for whatever goes wrong.
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <new>
#include <string>

#include "cli/commands.h"
#include "cli/common.h"
#include "core/check.h"
#include "headlens/core/log.h"
#include "headlens/core/version.h"

namespace headlens::cli {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUse = 2;

int complain(const std::string& message, int status) {
  // One line, whatever a library put into its message.
  std::string line = message.substr(0, message.find('\n'));
  fmt::print(stderr, "headlens: error: {}\n", line);
  return status;
}

/// CLI11's own words in the contract's form.
int complain_usage(const CLI::App& app, const CLI::ParseError& e) {
  const auto chosen = app.get_subcommands();
  const std::string where = chosen.empty() ? "headlens" : chosen.front()->get_name();
  return complain(fmt::format("[{}] {} (headlens {}--help shows the flags)", where, e.what(),
                              chosen.empty() ? "" : where + " "),
                  kWrongUse);
}

int act(const Action& action) {
  try {
    return action();
  } catch (const UsageError& e) {
    return complain(e.what(), kWrongUse);
  } catch (const Error& e) {
    return complain(e.what(), kFailed);
  } catch (const std::bad_alloc&) {
    return complain("[memory] the machine has no more memory to give", kFailed);
  } catch (const c10::OutOfMemoryError& e) {
    return complain(fmt::format("[memory] {}", e.what_without_backtrace()), kFailed);
  } catch (const c10::Error& e) {
    return complain(fmt::format("[torch] {}", e.what_without_backtrace()), kFailed);
  } catch (const std::exception& e) {
    return complain(fmt::format("[internal] {}", e.what()), kFailed);
  }
}

}  // namespace

int run(int argc, const char* const* argv) {
  set_command_line(argc, argv);
  CLI::App app{"Finds and explains the heads that do in-context retrieval in language models."};
  app.name("headlens");
  app.set_version_flag("--version", fmt::format("headlens {} {}", version(), git_revision()));
  app.require_subcommand(1);
  Action action;
  add_inspect(app, action);
  add_tokenize(app, action);
  add_run(app, action);
  add_verify(app, action);
  add_map(app, action);
  add_eval(app, action);
  add_find(app, action);
  add_ablate(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForAllHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForVersion& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return complain_usage(app, e);
  }
  return act(action);
}

}  // namespace headlens::cli
