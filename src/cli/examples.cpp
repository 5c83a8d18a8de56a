// headlens/cli: the examples at the end of each command's --help.
#include "cli/examples.h"

#include <map>

namespace headlens::cli {
namespace {

using Lines = std::vector<std::string>;

const std::map<std::string, Lines> kAllExamples = {
    {"inspect",
     {"headlens inspect zoo:list", "headlens inspect zoo:hybrid",
      "headlens inspect zoo:hybrid --pos 4096 --batch 8 --json"}},
    {"tokenize",
     {"headlens tokenize zoo:transformer --text 'cup : 50'",
      "headlens tokenize zoo:transformer --decode 3,4,5 --json"}},
    {"run",
     {"headlens run zoo:transformer --text 'cup : 50' --record 'blocks.*.attn.hook_pattern' "
      "--out pattern.safetensors",
      "headlens run zoo:mamba2 --text 'cup : 50' --record 'blocks.0.*' logits --out all.npz"}},
    {"verify",
     {"headlens run zoo:transformer --text 'cup : 50' --record logits --out golden.safetensors",
      "headlens verify zoo:transformer --golden golden.safetensors"}},
    {"map",
     {"headlens map zoo:transformer --text 'nail : 29 light : 57' --heads 2.1,3.0",
      "headlens map zoo:mamba2 --text 'nail : 29 light : 57' --heads 1.0 --normalize --out "
      "maps.html"}},
    {"task",
     {"headlens task kv:pairs=3,n=2", "headlens task mcq:options=4,n=8 --seed 5 --out mcq.jsonl",
      "headlens task kv:pairs=3,n=2 --json"}},
    {"eval",
     {"headlens eval zoo:transformer --task kv:pairs=8,n=64",
      "headlens eval zoo:hybrid --task mcq:options=4,n=64 --json --out eval.json"}},
    {"find",
     {"headlens find zoo:transformer --task mcq:options=4,n=64 --out out",
      "headlens find zoo:hybrid --task kv:pairs=8,n=32 --heads 1.0-3,3.0 --out chosen",
      "headlens find zoo:mamba2 --task mcq:options=4,n=64 --screen=8 --out screened"}},
    {"ablate",
     {"headlens ablate zoo:transformer --task mcq:options=4,n=64 --heads 2.1,3.0",
      "headlens ablate zoo:transformer --task kv:pairs=8,n=64 --segments all --json"}},
    {"attribute", {"headlens attribute zoo:transformer --task mcq:options=4,n=64 --top 6"}},
    {"circuit",
     {"headlens circuit zoo:transformer --task mcq:options=4,n=32 --candidates 4",
      "headlens circuit zoo:transformer --task mcq:options=4,n=32 --pairs --heads 2.1,3.0"}},
    {"patch",
     {"headlens patch zoo:transformer --task mcq:options=4,n=32 --site resid --out patched",
      "headlens patch zoo:transformer --task mcq:options=4,n=32 --site z --positions last"}},
    {"prune",
     {"headlens prune zoo:transformer --task mcq:options=4,n=32 --against world-facts:n=32"}},
    {"generate",
     {"headlens generate zoo:transformer --text 'nail : 29 light : 57' --max-new-tokens 8",
      "headlens generate zoo:mamba2 --text 'nail : 29' --temperature 0.8 --seed 3 --json"}},
    {"graft",
     {"headlens graft zoo:llamba --from zoo:transformer --layer 2 --task mcq:options=4,n=32"}},
    {"compare",
     {"headlens compare zoo:transformer zoo:mamba2 --task mcq:options=4,n=32 --no-search --out "
      "compared"}},
    {"scores",
     {"headlens scores zoo:transformer",
      "headlens scores zoo:hybrid --task kv:pairs=8,n=16 --steps 4 --out scores.json"}},
    {"reproduce",
     {"headlens reproduce C1 --models zoo:transformer --retrieval mcq:options=4,n=32 --knowledge "
      "world-facts:n=32"}},
    {"export",
     {"headlens find zoo:transformer --task mcq:options=4,n=32 --out out",
      "headlens export out/scores.json --out scores.npz"}},
    {"completion",
     {"headlens completion bash > headlens.bash", "headlens completion zsh > _headlens"}},
};

}  // namespace

const Lines& examples_of(const std::string& command) {
  static const Lines kNone;
  const auto found = kAllExamples.find(command);
  return found == kAllExamples.end() ? kNone : found->second;
}

std::string examples_text(const std::string& command) {
  const Lines& lines = examples_of(command);
  if (lines.empty()) return {};
  std::string text = "Examples:";
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

}  // namespace headlens::cli
