// headlens/cli: flags that several commands share, and what they load.
#include "cli/common.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <fmt/chrono.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <chrono>
#include <cmath>
#include <set>

#include "cli/certificate.h"
#include "cli/ids.h"
#include "cli/memory_notice.h"
#include "cli/not_finite.h"
#include "cli/progress.h"
#include "cli/zoo.h"
#include "core/check.h"
#include "core/json_fields.h"
#include "core/near_words.h"
#include "headlens/analysis/journal.h"
#include "headlens/core/checkpoint.h"
#include "headlens/core/device.h"
#include "headlens/core/log.h"
#include "headlens/core/version.h"
#include "headlens/model/families.h"
#include "headlens/model/fresh_weights.h"

namespace headlens::cli {
namespace {

constexpr std::string_view kRandom = "random:";

std::string& command_line() {
  static std::string line;  // set once, before any command runs
  return line;
}

/// The word as a shell reads it back.
std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("_./:=,@%+-").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

/// "scale:0.5" -> 0.5; nothing for another word.
std::optional<double> scale_factor(const std::string& word) {
  constexpr std::string_view kScale = "scale:";
  if (!word.starts_with(kScale)) return std::nullopt;
  const std::string_view number = std::string_view(word).substr(kScale.size());
  double factor = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), factor);
  const bool whole = error == std::errc() && end == number.data() + number.size();
  HEADLENS_CHECK(UsageError, whole && std::isfinite(factor) && factor != 1,
                 "[ablate] --mode scale:F, expected a number other than 1, got '{}'", number);
  return factor;
}

AblationMode parse_mode(const std::string& word) {
  if (scale_factor(word)) return AblationMode::Scale;
  if (word == "zero") return AblationMode::Zero;
  if (word == "mean") return AblationMode::Mean;
  if (word == "resample") return AblationMode::Resample;
  HEADLENS_FAIL(UsageError, "[ablate] --mode, expected zero, mean, resample or scale:F, got '{}'{}",
                word, suggestion(word, {"zero", "mean", "resample"}));
}

Placement parse_placement(const std::string& word) {
  if (word == "post_norm") return Placement::PostNorm;
  if (word == "pre_norm") return Placement::PreNorm;
  HEADLENS_FAIL(UsageError, "[ablate] --placement, expected post_norm or pre_norm, got '{}'{}",
                word, suggestion(word, {"post_norm", "pre_norm"}));
}

/// "cuda:N" with N of one or two digits.
bool is_numbered(const std::string& name) {
  return name.starts_with("cuda:") && name.size() > 5 && name.size() < 8 &&
         name.find_first_not_of("0123456789", 5) == std::string::npos;
}

/// The devices of a --device, "cuda:0,cuda:1" or "cuda:0,1"; only numbered ones can be several.
std::vector<std::string> device_names(const std::string& word) {
  std::vector<std::string> names(1);
  for (const char c : word) {
    c == ',' ? names.emplace_back() : names.back() += c;
  }
  for (size_t i = 1; i < names.size(); ++i) {
    const bool number_alone = !names[i].empty() && std::isdigit(names[i][0]) != 0;
    if (number_alone) names[i] = "cuda:" + names[i];
  }
  const bool known =
      std::all_of(names.begin(), names.end(), is_numbered) || (word == "cpu" || word == "cuda");
  HEADLENS_CHECK(UsageError, known,
                 "[device] --device, expected cpu, cuda, cuda:N or cuda:N,cuda:M.., got '{}'",
                 word);
  return names;
}

/// A wrong word is wrong use; a device that this machine lacks is a DeviceError.
std::vector<at::Device> chosen_devices(const std::string& word) {
  if (word.empty()) return {default_device()};
  std::vector<at::Device> devices;
  for (const std::string& name : device_names(word)) {
    const at::Device device = parse_device(name);
    HEADLENS_CHECK(UsageError, std::find(devices.begin(), devices.end(), device) == devices.end(),
                   "[device] --device, expected each device once, got '{}'", word);
    devices.push_back(device);
  }
  return devices;
}

/// Tells a person who waits, and nobody else: a line only on a terminal, and only after a second.
LoadProgress loading_progress(Progress& progress) {
  const auto started = std::chrono::steady_clock::now();
  return [&progress, started](int64_t done, int64_t total) {
    const auto waited = std::chrono::steady_clock::now() - started;
    if (waited > std::chrono::seconds(1)) progress.update("loading", done, total);
  };
}

std::vector<std::string> names_of(const std::vector<at::Device>& devices) {
  std::vector<std::string> names;
  for (const at::Device& device : devices) names.push_back(device.str());
  return names;
}

/// Of choices that are the same tokens the first wins, whatever the model: worth a word.
void note_same_choices(const std::vector<TokenizedExample>& examples, bool quiet) {
  int64_t alike = 0;
  for (const TokenizedExample& e : examples) {
    const std::set<std::vector<int64_t>> distinct(e.choice_ids.begin(), e.choice_ids.end());
    alike += distinct.size() < e.choice_ids.size();
  }
  if (alike == 0 || quiet) return;
  log_warn(
      fmt::format("[task] {} of {} examples have choices with the same tokens; of those the "
                  "first counts",
                  alike, examples.size()));
}

/// CLI11 would wrap "-1" round to 2^64 - 1.
std::string whole_number(const std::string& word) {
  uint64_t value = 0;
  const char* const last = word.data() + word.size();
  const auto [end, error] = std::from_chars(word.data(), last, value);
  if (error == std::errc() && end == last) return {};
  return fmt::format("expected a whole number from 0, got '{}'", word);
}

}  // namespace

void add_common_flags(CLI::App& command, CommonFlags& flags, const std::string& out_help) {
  command
      .add_option("MODEL", flags.model,
                  "checkpoint directory, zoo:NAME (zoo:list lists them), or random:DIR for random "
                  "weights of the shape in DIR/config.json")
      ->required();
  add_run_flags(command, flags, out_help);
}

void add_run_flags(CLI::App& command, CommonFlags& flags, const std::string& out_help) {
  command.add_option("--device", flags.device,
                     "cpu, cuda, cuda:N, or cuda:N,cuda:M.. to spread the layers (default: cuda if "
                     "there is one)");
  command.add_option("--dtype", flags.dtype,
                     "float32, bfloat16, float16 or float64 (default: the checkpoint's on CUDA, "
                     "float32 on the CPU)");
  command.add_option("--out", flags.out, out_help);
  add_seed_flag(command, flags.seed);
  command.add_flag("--tf32", flags.tf32,
                   "float32 products on a GPU in TF32: faster, with three digits of seven");
  command.add_flag("--quiet", flags.quiet, "no progress and no notes on stderr");
  command.add_flag("--json", flags.json, "print JSON instead of text");
}

void add_seed_flag(CLI::App& command, uint64_t& seed) {
  command.add_option("--seed", seed, "seed of made tasks (default 0)")->check(whole_number);
}

void add_text_flags(CLI::App& command, CommonFlags& flags) {
  command.add_flag("--bos", flags.bos, "put the tokenizer's start token before each prompt");
  command.add_option("--tokenizer", flags.tokenizer,
                     "tokenizer.json, .model file or directory (default: the model's)");
}

void add_task_flag(CLI::App& command, std::string& task) {
  command.add_option("--task", task, fmt::format("one of {}", fmt::join(known_tasks(), ", ")))
      ->required();
}

void add_ablation_flags(CLI::App& command, AblationFlags& flags) {
  command.add_option("--mode", flags.mode,
                     "zero, mean, resample or scale:F, its output times F (default zero)");
  command.add_option("--placement", flags.placement,
                     "post_norm or pre_norm, for Mamba-2 (default post_norm)");
  command.add_option("--batch-tokens", flags.batch_tokens,
                     "tokens held in one forward (default 16384)");
  command.add_option("--max-gpu-memory", flags.gpu_memory,
                     "GiB of a GPU that the sweep may take, weights included; batches are planned "
                     "from what the first ones took (default: no cap)");
  command.add_option("--max-host-memory", flags.host_memory,
                     "the same of the host's memory, for models on the CPU");
}

SweepOptions sweep_options(const AblationFlags& flags) {
  check_range("--batch-tokens", flags.batch_tokens, 1);
  SweepOptions options;
  options.mode = parse_mode(flags.mode);
  options.placement = parse_placement(flags.placement);
  options.max_batch_tokens = flags.batch_tokens;
  options.factor = scale_factor(flags.mode).value_or(0);
  options.max_gpu_bytes = gib_bytes("--max-gpu-memory", flags.gpu_memory);
  options.max_host_bytes = gib_bytes("--max-host-memory", flags.host_memory);
  return options;
}

void check_range(const char* flag, int64_t value, int64_t least, int64_t most) {
  HEADLENS_CHECK(UsageError, value >= least && value <= most,
                 "[flags] {}, expected {} to {}, got {}", flag, least, most, value);
}

std::optional<at::ScalarType> chosen_dtype(const std::string& word) {
  if (word.empty()) return std::nullopt;
  try {
    return parse_dtype(word);
  } catch (const ConfigError&) {
    HEADLENS_FAIL(UsageError,
                  "[dtype] --dtype, expected float32, bfloat16, float16 or float64, got '{}'{}",
                  word, suggestion(word, {"float32", "bfloat16", "float16", "float64"}));
  }
}

std::filesystem::path model_directory(const std::string& model) {
  constexpr std::string_view kZoo = "zoo:";
  if (model.starts_with(kZoo)) return zoo_model(model.substr(kZoo.size()));
  const std::string directory = is_random_model(model) ? model.substr(kRandom.size()) : model;
  std::error_code ignored;
  HEADLENS_CHECK(UsageError, std::filesystem::is_directory(directory, ignored),
                 "[model] MODEL, expected a checkpoint directory, zoo:NAME or random:DIR, got '{}'",
                 model);
  return directory;
}

bool is_random_model(const std::string& model) {
  return model.starts_with(kRandom);
}

ModelIdentity identify_model(const CommonFlags& flags) {
  const std::filesystem::path directory = model_directory(flags.model);
  const std::string where = (directory / "config.json").string();
  if (is_random_model(flags.model)) {
    const std::string text = read_text_file(where);
    return {parse_model_config(text, where), "random-" + checksum_text(text)};
  }
  const Checkpoint checkpoint = Checkpoint::open(directory);
  return {parse_model_config(checkpoint.config_json(), where), checkpoint.fingerprint()};
}

LoadedModel load_model(const CommonFlags& flags) {
  if (flags.quiet) set_log_level(LogLevel::Warn);
  at::globalContext().setAllowTF32CuBLAS(flags.tf32);
  LoadOptions options;
  options.devices = chosen_devices(flags.device);
  options.dtype = chosen_dtype(flags.dtype);
  const std::filesystem::path directory = model_directory(flags.model);
  Progress progress(flags.quiet);
  options.progress = loading_progress(progress);
  if (is_random_model(flags.model)) return {random_model(directory, 0, options), directory};
  return {LanguageModel::load(directory, options), directory};
}

Tokenizer load_tokenizer(const LoadedModel& loaded, const CommonFlags& flags) {
  return load_tokenizer(loaded.directory, flags);
}

LoadedTask load_task(const std::string& spec, const LoadedModel& loaded, const CommonFlags& flags) {
  const Task task = make_task(spec, flags.seed);
  const Tokenizer tokenizer = load_tokenizer(loaded, flags);
  check_bos(flags, tokenizer, task.examples.front().prompt);
  LoadedTask result{task.info, tokenize(task, tokenizer, flags.bos)};
  note_same_choices(result.examples, flags.quiet);
  check_finite(loaded, at::tensor(result.examples.front().prompt_ids, at::kLong).unsqueeze(0));
  return result;
}

void check_bos(const CommonFlags& flags, const Tokenizer& tokenizer, const std::string& text) {
  if (!flags.bos) return;
  const std::vector<int64_t> plain = tokenizer.encode(text), full = tokenizer.encode(text, true);
  const bool leads = !plain.empty() && full.size() > plain.size() &&
                     std::equal(plain.begin(), plain.end(), full.begin());
  HEADLENS_CHECK(UsageError, full.size() > plain.size() && !leads,
                 "[bos] --bos, expected a tokenizer that adds a start token, got one that {}",
                 "adds none");
}

void check_placement(const ModelConfig& config, Placement placement) {
  const bool has_norm =
      std::any_of(config.layers.begin(), config.layers.end(), [](const LayerSpec& layer) {
        const LayerKind kind = layer_kind(layer);  // only the layer's own mixer can be Mamba-2
        return kind == LayerKind::Mamba2 || kind == LayerKind::DiscreteMamba2;
      });
  HEADLENS_CHECK(
      UsageError, placement == Placement::PostNorm || has_norm,
      "[flags] --placement, expected post_norm in a model without Mamba-2 layers, got {}",
      "pre_norm");
}

void check_common_flags(const CommonFlags& flags) {
  if (!flags.device.empty()) device_names(flags.device);
  chosen_dtype(flags.dtype);
}

void set_command_line(int argc, const char* const* argv) {
  std::string line = "headlens";
  for (int i = 1; i < argc; ++i) line += " " + shell_word(argv[i]);
  command_line() = line;
}

Manifest make_manifest(const CommonFlags& flags, const ModelConfig& config) {
  const auto now =
      std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
  const std::vector<at::Device> devices = chosen_devices(flags.device);
  const at::ScalarType native = devices.front().is_cpu() ? at::kFloat : parse_dtype(config.dtype);
  Manifest m;
  m.headlens_version = version();
  m.git_revision = git_revision();
  m.torch_version = TORCH_VERSION;
  m.command = command_line();
  m.device = fmt::format("{}", fmt::join(names_of(devices), ","));
  m.dtype = dtype_name(chosen_dtype(flags.dtype).value_or(native));
  m.seed = flags.seed;
  m.started = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
  return m;
}

Manifest make_manifest(const CommonFlags& flags, const LoadedModel& loaded) {
  const LanguageModel& model = loaded.model;
  Manifest m = make_manifest(flags, model.config());
  m.checkpoint = model.fingerprint();
  m.certificate = certificate_of(loaded.directory, model.fingerprint());
  m.device = fmt::format("{}", fmt::join(names_of(model.devices()), ","));
  m.dtype = dtype_name(model.dtype());
  return m;
}

}  // namespace headlens::cli
