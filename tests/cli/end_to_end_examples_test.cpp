// headlens/tests: the examples of every --help, and completion in real shells.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <regex>
#include <sstream>

#include "cli/command_tools.h"

namespace headlens {
namespace {

using testing::TempDir;
namespace fs = std::filesystem;

/// What a shell made of it.
struct Shell {
  int status;
  std::string out;
};

/// `command` by `shell` in `where`, with headlens on the path.
Shell by(const std::string& shell, const fs::path& where, const std::string& command) {
  const fs::path bin = where / "bin";
  fs::create_directories(bin);
  if (!fs::exists(bin / "headlens")) fs::create_symlink(HEADLENS_COMMAND, bin / "headlens");
  std::ofstream(where / "script") << command << "\n";
  const std::string line = "cd '" + where.string() + "' && PATH='" + bin.string() +
                           "':$PATH OMP_NUM_THREADS=1 HEADLENS_ZOO='" HEADLENS_ZOO_DIR "' " +
                           shell + " script 2>&1";
  std::FILE* pipe = ::popen(line.c_str(), "r");
  std::string out;
  std::array<char, 4096> part;
  while (const size_t got = std::fread(part.data(), 1, part.size(), pipe))
    out.append(part.data(), got);
  return {::pclose(pipe), out};
}

bool has(const std::string& program) {
  return std::system(("command -v " + program + " > /dev/null").c_str()) == 0;
}

/// The lines under "Examples:" as --help prints them.
std::vector<std::string> printed_examples(const std::string& help) {
  std::vector<std::string> lines;
  std::istringstream in(help.substr(std::min(help.find("Examples:"), help.size())));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("  headlens ")) lines.push_back(line.substr(2));
  }
  return lines;
}

TEST(Examples, EveryOneRuns) {
  const TempDir dir;
  const std::string all = testing::headlens({"--help"}).out;
  static const std::regex name(R"(\n  ([a-z]+) +[A-Z])");
  int commands = 0, examples = 0;
  for (std::sregex_iterator at(all.begin(), all.end(), name), end; at != end; ++at, ++commands) {
    const fs::path where = dir.path() / (*at)[1].str();
    fs::create_directories(where);
    for (const std::string& line : printed_examples(testing::headlens({(*at)[1], "--help"}).out)) {
      const Shell ran = by("bash", where, line);
      EXPECT_EQ(ran.status, 0) << line << "\n" << ran.out;
      ++examples;
    }
  }
  EXPECT_GE(commands, 20);
  EXPECT_GE(examples, 2 * commands - 8);
}

/// What bash would offer for a line, the cursor at its end.
std::string bash_offers(const TempDir& dir, const std::string& line) {
  return by("bash", dir.path(),
            "source <(headlens completion bash)\nCOMP_LINE='" + line +
                "' COMP_POINT=${#COMP_LINE}\ncompopt() { :; }\n_headlens\n"
                "printf '%s\\n' \"${COMPREPLY[@]}\"")
      .out;
}

TEST(Completion, InBash) {
  if (!has("bash")) GTEST_SKIP() << "bash is not installed";
  const TempDir dir;
  EXPECT_EQ(bash_offers(dir, "headlens fi"), "find\n");
  EXPECT_EQ(bash_offers(dir, "headlens eval zoo:tr"), "transformer\n");  // after readline's colon
  EXPECT_EQ(bash_offers(dir, "headlens find zoo:hybrid --task kv:p"), "pairs=\n");
  EXPECT_EQ(bash_offers(dir, "headlens run zoo:hybrid --record blocks.*.attn.hook_pat"),
            "blocks.*.attn.hook_pattern\n");
  EXPECT_NE(bash_offers(dir, "headlens find ").find("transformer\n"), std::string::npos);
}

TEST(Completion, InFish) {
  if (!has("fish")) GTEST_SKIP() << "fish is not installed";
  const TempDir dir;
  const std::string script = "headlens completion fish | source\ncomplete -C 'headlens fi'\n";
  EXPECT_NE(by("fish", dir.path(), script).out.find("find"), std::string::npos);
}

TEST(Completion, InZsh) {
  if (!has("zsh")) GTEST_SKIP() << "zsh is not installed";
  const TempDir dir;
  // compadd outside a completion widget is an error: a function of that name takes its place.
  const std::string script =
      "compdef() { : }\nsource <(headlens completion zsh)\n"
      "compadd() { while [[ $1 != -a ]]; do shift; done; print -l -- ${(P)2} }\n"
      "words=(headlens eval zoo:tr) CURRENT=3\n_headlens\n";
  EXPECT_NE(by("zsh", dir.path(), script).out.find("zoo:transformer"), std::string::npos);
}

}  // namespace
}  // namespace headlens
