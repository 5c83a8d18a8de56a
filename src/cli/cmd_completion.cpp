// headlens/cli: `completion`: a shell's script that completes our words.
#include <fmt/format.h>

#include <map>

#include "cli/completions.h"
#include "cli/output.h"
#include "core/check.h"
#include "core/near_words.h"
#include "tasks/task_spec.h"

namespace headlens::cli {
namespace {

constexpr const char* kBash =
    R"sh(# bash completion of headlens: source it, or put it among bash-completion's files.
_headlens() {
  local line=${COMP_LINE:0:COMP_POINT} words strip
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  local current=${words[-1]}
  mapfile -t COMPREPLY < <("${words[0]/#\~/$HOME}" __complete "${words[@]:1}" 2>/dev/null)
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:=] ]] && compopt -o nospace
  # Readline takes only what follows the last colon or equals sign for the word.
  strip=${current%"${current##*[:=]}"}
  COMPREPLY=("${COMPREPLY[@]#"$strip"}")
}
complete -o default -F _headlens headlens
)sh";

constexpr const char* kZsh = R"sh(#compdef headlens
# zsh completion of headlens: put it into a folder of $fpath as _headlens, or source it after compinit.
_headlens() {
  local -a found open
  found=(${(f)"$("${(Q)words[1]/#\~/$HOME}" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)"})
  (( $#found )) || { _files; return; }
  open=(${(M)found:#*[:=]})
  found=(${found:#*[:=]})
  compadd -S '' -a open
  compadd -a found
}
if [[ $funcstack[1] == _headlens ]]; then _headlens "$@"; else compdef _headlens headlens; fi
)sh";

constexpr const char* kFish =
    R"sh(# fish completion of headlens: put it into ~/.config/fish/completions as headlens.fish.
function __headlens_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    $before[1] __complete $before[2..-1] "$current" 2>/dev/null
end
complete -c headlens -a '(__headlens_complete)'
)sh";

struct Flags {
  std::string shell;
  bool quiet = false;
  bool json = false;
};

int print_script(const Flags& flags) {
  static const std::map<std::string, const char*> kScripts = {
      {"bash", kBash}, {"zsh", kZsh}, {"fish", kFish}};
  const auto found = kScripts.find(flags.shell);
  HEADLENS_CHECK(UsageError, found != kScripts.end(),
                 "[completion] SHELL, expected bash, zsh or fish, got '{}'{}", flags.shell,
                 suggestion(flags.shell, {"bash", "zsh", "fish"}));
  print(flags.json ? json_text({{"shell", flags.shell}, {"script", found->second}})
                   : found->second);
  return 0;
}

}  // namespace

void add_completion(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "completion", "A script by which a shell completes commands, flags, models, tasks and sites");
  command->add_option("SHELL", flags->shell, "bash, zsh or fish")->required();
  command->add_flag("--quiet", flags->quiet, "taken by every command; here there is no progress");
  command->add_flag("--json", flags->json, "print JSON instead of text");
  command->callback([flags, &action] { action = [flags] { return print_script(*flags); }; });
}

}  // namespace headlens::cli
