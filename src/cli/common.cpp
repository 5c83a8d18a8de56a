// headlens/cli: flags that every command shares, and what they load.
#include "cli/common.h"

#include <fmt/chrono.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <charconv>
#include <chrono>
#include <cstdio>

#include "cli/zoo.h"
#include "core/check.h"
#include "headlens/core/device.h"
#include "headlens/core/log.h"
#include "headlens/core/version.h"

namespace headlens::cli {
namespace {

std::string& command_line() {
  static std::string line;  // set once, before any command runs
  return line;
}

std::string word_list(std::initializer_list<const char*> words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

/// A whole non-negative number or nothing.
std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

HeadId parse_head(std::string_view word) {
  const size_t dot = word.find('.');
  const size_t dash = word.find('-', dot == std::string_view::npos ? 0 : dot);
  const auto layer = dot == std::string_view::npos ? std::nullopt : number(word.substr(0, dot));
  const auto first =
      dot == std::string_view::npos ? std::nullopt : number(word.substr(dot + 1, dash - dot - 1));
  const auto last = dash == std::string_view::npos ? first : number(word.substr(dash + 1));
  HEADLENS_CHECK(UsageError, layer && first && last && *first <= *last,
                 "[heads] head, expected LAYER.HEAD or LAYER.FIRST-LAST, got '{}'", word);
  return {*layer, *first, *last};
}

}  // namespace

void add_common_flags(CLI::App& command, CommonFlags& flags, bool takes_model) {
  if (takes_model) {
    command
        .add_option("MODEL", flags.model, "checkpoint directory, or zoo:NAME (zoo:list lists them)")
        ->required();
  }
  command.add_option("--device", flags.device,
                     "cpu, cuda or cuda:N (default: cuda if there is one)");
  command.add_option("--dtype", flags.dtype, "float32, bfloat16, float16 or float64");
  command.add_option("--out", flags.out, "where to write");
  command.add_option("--seed", flags.seed, "seed of made tasks (default 0)");
  command.add_flag("--quiet", flags.quiet, "no progress on stderr");
  command.add_flag("--json", flags.json, "print JSON instead of a table");
}

std::filesystem::path model_directory(const std::string& model) {
  constexpr std::string_view kZoo = "zoo:";
  if (model.starts_with(kZoo)) return zoo_model(model.substr(kZoo.size()));
  HEADLENS_CHECK(UsageError, std::filesystem::is_directory(model),
                 "[model] {}, expected a checkpoint directory or zoo:NAME, got neither", model);
  return model;
}

LoadedModel load_model(const CommonFlags& flags) {
  if (flags.quiet) set_log_level(LogLevel::Warn);
  LoadOptions options;
  options.device = flags.device.empty() ? default_device() : parse_device(flags.device);
  if (!flags.dtype.empty()) options.dtype = parse_dtype(flags.dtype);
  const std::filesystem::path directory = model_directory(flags.model);
  return {LanguageModel::load(directory, options), directory};
}

Tokenizer load_tokenizer(const std::filesystem::path& directory) {
  return Tokenizer::load(directory);
}

LoadedTask load_task(const std::string& spec, const Tokenizer& tokenizer,
                     const CommonFlags& flags) {
  const Task task = make_task(spec, flags.seed);
  return {task.info, tokenize(task, tokenizer, flags.bos)};
}

void set_command_line(int argc, const char* const* argv) {
  command_line() = fmt::format("headlens {}", fmt::join(argv + 1, argv + argc, " "));
}

Manifest make_manifest(const CommonFlags& flags, const LanguageModel& model) {
  const auto now =
      std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
  Manifest m;
  m.headlens_version = version();
  m.git_revision = git_revision();
  m.torch_version = TORCH_VERSION;
  m.command = command_line();
  m.checkpoint = model.fingerprint();
  m.device = model.device().str();
  m.dtype = dtype_name(model.dtype());
  m.seed = flags.seed;
  m.started = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
  return m;
}

std::vector<HeadId> parse_heads(const std::vector<std::string>& words) {
  std::vector<HeadId> heads;
  for (const std::string& word : words) heads.push_back(parse_head(word));
  return heads;
}

std::string head_text(const HeadId& head) {
  return head.first == head.last ? fmt::format("{}.{}", head.layer, head.first)
                                 : fmt::format("{}.{}-{}", head.layer, head.first, head.last);
}

AblationMode parse_mode(const std::string& word) {
  if (word == "zero") return AblationMode::Zero;
  if (word == "mean") return AblationMode::Mean;
  if (word == "resample") return AblationMode::Resample;
  HEADLENS_FAIL(UsageError, "[ablate] --mode, expected {}, got '{}'",
                word_list({"zero", "mean", "resample"}), word);
}

Placement parse_placement(const std::string& word) {
  if (word == "post_norm") return Placement::PostNorm;
  if (word == "pre_norm") return Placement::PreNorm;
  HEADLENS_FAIL(UsageError, "[ablate] --placement, expected {}, got '{}'",
                word_list({"post_norm", "pre_norm"}), word);
}

void print(const std::string& text) {
  fmt::print("{}", text);
}

}  // namespace headlens::cli
