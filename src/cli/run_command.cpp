// headlens/cli: parsing, dispatch, and one line for whatever goes wrong.
#include <c10/util/Exception.h>
#include <fmt/ranges.h>

#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <string>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/completions.h"
#include "cli/dry_run.h"
#include "cli/examples.h"
#include "cli/interrupt.h"
#include "cli/remedies.h"
#include "cli/tensor_files.h"
#include "cli/terminal.h"
#include "core/check.h"
#include "core/device_failure.h"
#include "core/near_words.h"
#include "headlens/core/version.h"
#include "tasks/task_spec.h"

namespace headlens::cli {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUse = 2;

/// One line, whatever a file name or a library put into the message.
int complain(std::string message, int status) {
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  }
  // Not fmt::print, which throws when stderr is closed.
  std::fputs(fmt::format("headlens: error: {}\n", with_remedy(message)).c_str(), stderr);
  return status;
}

/// The work failed: as `message` says, or because a GPU is gone, which comes up in many words.
int fail(std::string message) {
  const std::string failure = device_failure();
  return complain(
      failure.empty() ? std::move(message) : lost_device_line(failure, kept_after_failure()),
      kFailed);
}

/// LibTorch's messages go on for lines; the first one says it.
std::string first_line(const std::string& message) {
  return message.substr(0, message.find('\n'));
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

std::vector<std::string> flag_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::string_view before(std::string_view text, std::string_view mark) {
  return text.substr(0, text.find(mark));
}

std::string_view after(std::string_view text, std::string_view mark) {
  const size_t at = text.find(mark);
  return at == std::string_view::npos ? text : text.substr(at + mark.size());
}

/// CLI11's words in the contract's form.
std::string in_our_words(const CLI::App& command, const CLI::ParseError& e) {
  const std::string said = e.what();
  const std::string& where = command.get_name();
  if (dynamic_cast<const CLI::RequiredError*>(&e) != nullptr) {
    return fmt::format("[{}] {}, expected a value, got none", where, before(said, " is required"));
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&e) != nullptr &&
      said.find("At Most") != std::string::npos) {
    return fmt::format("[{}] {}, expected once, got it more often", where, before(said, ":"));
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&e) != nullptr) {
    return fmt::format("[{}] {}, expected a value, got none", where, before(said, ":"));
  }
  if (dynamic_cast<const CLI::ConversionError*>(&e) != nullptr) {
    const std::string_view pair = after(said, ": ");
    return fmt::format("[{}] {}, expected a number, got '{}'", where, before(pair, " = "),
                       after(pair, " = "));
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&e) != nullptr) {
    return fmt::format("[{}] arguments, expected those of headlens {} --help, got also '{}'", where,
                       where, after(said, ": "));
  }
  // Ours, from a check of a value: "--seed: expected X, got Y".
  return fmt::format("[{}] {}, {}", where, before(said, ": "), after(said, ": "));
}

/// The message for the first flag that `command` does not have, or nothing. CLI11 would speak of
/// what is missing instead.
std::string wrong_flag(const CLI::App& command, int argc, const char* const* argv) {
  const std::vector<std::string> names = flag_names(command);
  for (int i = 2; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string flag(before(argv[i], "="));
    const bool is_flag =
        flag.size() > 2 && flag.starts_with("--") && flag[2] >= 'a' && flag[2] <= 'z';
    if (!is_flag || std::find(names.begin(), names.end(), flag) != names.end()) continue;
    return fmt::format("[{}] flag, expected one of headlens {} --help, got '{}'{}",
                       command.get_name(), command.get_name(), flag, suggestion(flag, names));
  }
  return {};
}

/// The message for a missing or unknown command or flag, or nothing.
std::string wrong_words(const CLI::App& app, int argc, const char* const* argv) {
  const std::vector<std::string> names = command_names(app);
  const std::string word = argc < 2 ? "" : argv[1];
  if (std::find(names.begin(), names.end(), word) != names.end()) {
    return wrong_flag(*app.get_subcommand(word), argc, argv);
  }
  if (word == "--help" || word == "-h" || word == "--version") return {};
  return fmt::format("[headlens] command, expected one of {}, got {}{}", fmt::join(names, ", "),
                     argc < 2 ? "none" : fmt::format("'{}'", word), suggestion(word, names));
}

int act(const Action& action) {
  try {
    return action();
  } catch (const UsageError& e) {
    return complain(e.what(), kWrongUse);
  } catch (const HookError& e) {  // a site or a head that was named and is not there
    return complain(e.what(), kWrongUse);
  } catch (const Error& e) {
    return fail(e.what());
  } catch (const std::bad_alloc&) {
    return fail("[memory] memory, expected enough for this work, got no more");
  } catch (const c10::OutOfMemoryError& e) {
    return fail(fmt::format("[memory] {}", first_line(e.what_without_backtrace())));
  } catch (const c10::Error& e) {
    constexpr std::string_view kAsked = "you tried to allocate ";
    const std::string_view said = e.what_without_backtrace();
    if (said.find(kAsked) != std::string_view::npos) {
      return fail(fmt::format("[memory] memory, expected {} bytes for one tensor, got no more",
                              before(after(said, kAsked), " ")));
    }
    return fail(fmt::format("[torch] {}", first_line(e.what_without_backtrace())));
  } catch (const std::filesystem::filesystem_error& e) {
    return fail(fmt::format("[file] {}, expected to be reachable, got: {}", e.path1().string(),
                            e.code().message()));
  } catch (const std::exception& e) {
    return fail(fmt::format("[internal] {}", e.what()));
  }
}

/// CLI11 reads "" as 0 and "010" as eight.
std::string plain_number(const std::string& text) {
  if (text.empty()) return "expected a number, got ''";
  const size_t sign = text[0] == '-' || text[0] == '+' ? 1 : 0;
  const bool octal = text.size() > sign + 1 && text[sign] == '0' && std::isdigit(text[sign + 1]);
  return octal ? fmt::format("expected a number without zeros before it, got '{}'", text) : "";
}

std::string finite_number(const std::string& text) {
  double value = 0;
  const bool is_number = CLI::detail::lexical_cast(text, value);
  if (!text.empty() && (!is_number || std::isfinite(value))) return {};
  return fmt::format("expected a finite number, got '{}'", text);
}

void check_numbers(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({})) {
    for (CLI::Option* option : command->get_options()) {
      const std::string type = option->get_type_name();
      if (type.starts_with("INT") || type.starts_with("UINT")) option->check(plain_number);
      if (type.starts_with("FLOAT")) option->check(finite_number);
    }
  }
}

void add_commands(CLI::App& app, Action& action) {
  add_inspect(app, action);
  add_tokenize(app, action);
  add_run(app, action);
  add_verify(app, action);
  add_map(app, action);
  add_task(app, action);
  add_eval(app, action);
  add_find(app, action);
  add_ablate(app, action);
  add_attribute(app, action);
  add_circuit(app, action);
  add_patch(app, action);
  add_prune(app, action);
  add_generate(app, action);
  add_graft(app, action);
  add_compare(app, action);
  add_scores(app, action);
  add_reproduce(app, action);
  add_export(app, action);
  add_completion(app, action);
}

void add_examples(CLI::App& app) {
  app.footer("headlens COMMAND --help ends with examples of that command.");
  for (CLI::App* command : app.get_subcommands({})) {
    command->footer(examples_text(command->get_name()));
  }
}

/// `headlens __complete WORDS..`: what a shell's completion asks for, a line each.
int complete(const CLI::App& app, int argc, const char* const* argv) {
  std::string lines;
  for (const std::string& word : completions(app, {argv + 2, argv + argc})) lines += word + "\n";
  std::fputs(lines.c_str(), stdout);
  return 0;
}

std::string color_word(const std::string& word) {
  static const std::vector<std::string> kWords = {"auto", "always", "never"};
  if (std::count(kWords.begin(), kWords.end(), word) > 0) return {};
  return fmt::format("expected auto, always or never, got '{}'{}", word, suggestion(word, kWords));
}

/// --color of every command.
void add_color_flags(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({})) {
    command
        ->add_option_function<std::string>(
            "--color", choose_color,
            "auto (colours on a terminal, unless NO_COLOR is set), always or never")
        ->check(color_word);
  }
}

}  // namespace

int run(int argc, const char* const* argv) {
  set_command_line(argc, argv);
  choose_color("auto");  // tests run several commands in one process
  CLI::App app{"Finds and explains the heads that do in-context retrieval in language models."};
  app.name("headlens");
  app.set_version_flag("--version", fmt::format("headlens {} {}", version(), git_revision()));
  app.require_subcommand(1);
  Action action;
  add_commands(app, action);
  add_color_flags(app);
  add_dry_run_flags(app);
  check_numbers(app);
  add_examples(app);
  if (argc > 1 && std::string_view(argv[1]) == "__complete") return complete(app, argc, argv);
  const std::string wrong = wrong_words(app, argc, argv);
  if (!wrong.empty()) return complain(wrong, kWrongUse);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help, --version
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    const auto chosen = app.get_subcommands();
    return complain(in_our_words(chosen.empty() ? app : *chosen.front(), e), kWrongUse);
  }
  const CLI::App* command = app.get_subcommands().front();
  return act(is_dry_run(*command) ? [command] { return dry_run(*command); } : action);
}

void end_on_terminate() {
  const std::exception_ptr thrown = std::current_exception();
  const int status = act([&thrown]() -> int {
    if (thrown) std::rethrow_exception(thrown);
    HEADLENS_FAIL(Error, "[internal] {}, expected to end by itself, got no way on", "headlens");
  });
  std::fflush(nullptr);
  std::_Exit(status);
}

void leave(int status) {
  std::fflush(nullptr);
  // What lives as long as the process would be taken down on a GPU that is gone, and may crash.
  if (status != 0 && !device_failure().empty()) std::_Exit(status);
}

}  // namespace headlens::cli
