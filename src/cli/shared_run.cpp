// headlens/cli: one command's work shared by processes and kept in a journal.
#include "cli/shared_run.h"

#include <fmt/ranges.h>

#include <cmath>

#include "cli/pool_steps.h"
#include "core/check.h"
#include "core/json_fields.h"
#include "core/out_of_memory.h"
#include "headlens/core/device.h"
#include "headlens/core/log.h"

namespace headlens::cli {
namespace {

constexpr double kMostSeconds = 86'400;

template <typename T>
void put(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put(std::string& bytes, const std::vector<int64_t>& values) {
  put(bytes, values.size());
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int64_t));
}

/// A process that is shown one device only has it under the number 0, whatever its own is.
std::string device_of(const Launch& launch) {
  return fmt::format("cuda:{}", cuda_device_count() == 1 ? 0 : launch.local_rank);
}

std::unique_ptr<WorkPool> pool_of(const std::optional<Launch>& launch, double lost_after) {
  if (!launch || launch->world_size == 1) return make_local_pool();
  StorePoolOptions options;
  options.lost_after = std::chrono::milliseconds(std::llround(lost_after * 1000));
  return make_store_pool(*launch, options);
}

std::filesystem::path lock_of(const std::filesystem::path& journal) {
  return journal.string() + ".lock";
}

}  // namespace

void add_shared_run_flags(CLI::App& command, SharedRunFlags& flags) {
  command.add_flag("--resume", flags.resume,
                   "go on from the journal that a killed run left beside its output");
  command.add_option("--lost-after", flags.lost_after,
                     "under torchrun, mpirun or srun: seconds of silence after which a process's "
                     "work goes to others (default 30)");
}

std::filesystem::path journal_beside(const std::filesystem::path& out) {
  return out.empty() ? out : std::filesystem::path(out.string() + ".journal");
}

std::map<std::string, std::string> given_options(const CLI::App& command) {
  constexpr std::string_view kIdle[] = {
      "out",        "quiet", "json",  "resume",
      "lost-after", "top",   "device"};  // "device" is in the identity by its kind
  std::map<std::string, std::string> given = {{"command", command.get_name()}};
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_lnames().empty() ? "" : option->get_lnames().front();
    const bool idle = std::find(std::begin(kIdle), std::end(kIdle), name) != std::end(kIdle);
    if (name.empty() || idle || option->count() == 0) continue;
    given["--" + name] = fmt::format("{}", fmt::join(option->results(), " "));
  }
  return given;
}

KeptSteps steps_of(WorkPool& pool) {
  return [&pool](const std::string& key, const std::function<std::string()>& compute) {
    return pool.run({key}, [&](size_t) { return compute(); }).front();
  };
}

std::string task_digest(const std::vector<TokenizedExample>& examples) {
  std::string bytes;
  for (const TokenizedExample& e : examples) {
    put(bytes, e.prompt_ids);
    put(bytes, e.choice_ids.size());
    for (const std::vector<int64_t>& choice : e.choice_ids) put(bytes, choice);
    put(bytes, e.answer);
    put(bytes, e.segments.size());
    for (const Segment& segment : e.segments) {
      put(bytes, segment.start);
      put(bytes, segment.end);
    }
  }
  return checksum_text(bytes);
}

std::string tokenizer_digest(const CommonFlags& flags) {
  std::vector<std::filesystem::path> files;
  const std::filesystem::path from = flags.tokenizer.empty()
                                         ? model_directory(flags.model)
                                         : std::filesystem::path(flags.tokenizer);
  if (std::filesystem::is_directory(from)) {
    for (const char* name : {"tokenizer.json", "tokenizer.model"}) files.push_back(from / name);
  } else {
    files.push_back(from);
  }
  std::string all;
  for (const std::filesystem::path& file : files) {
    if (std::filesystem::exists(file)) all += read_text_file(file);
  }
  return checksum_text(all);
}

RunIdentity run_identity(const Manifest& manifest, const CommonFlags& flags, const TaskInfo& task,
                         const std::string& digest,
                         const std::map<std::string, std::string>& options) {
  const std::string& devices = manifest.device;
  RunIdentity identity = {
      {"model", manifest.checkpoint},
      {"task", task.spec},
      {"examples", fmt::format("{} ({})", task.examples, digest)},
      {"seed", fmt::format("{}", manifest.seed)},
      {"dtype", manifest.dtype},
      {"device", devices.substr(0, devices.find_first_of(":,"))},
      {"tf32", flags.tf32 ? "true" : "false"},
      {"headlens", fmt::format("{} {}", manifest.headlens_version, manifest.git_revision)},
      {"torch", manifest.torch_version}};
  identity.insert(identity.end(), options.begin(), options.end());
  return identity;
}

SharedRun::SharedRun(CommonFlags& flags, const SharedRunFlags& shared,
                     std::filesystem::path journal)
    : journal_(std::move(journal)), resume_(shared.resume) {
  HEADLENS_CHECK(UsageError, shared.lost_after >= 0.1 && shared.lost_after <= kMostSeconds,
                 "[flags] --lost-after, expected 0.1 to {} seconds, got {}", kMostSeconds,
                 shared.lost_after);
  HEADLENS_CHECK(UsageError, !shared.resume || !journal_.empty(),
                 "[resume] --out, expected the one that was killed, got {}", "none");
  const std::optional<Launch> launch = read_launch();
  if (launch && launch->restarts > 0) resume_ = true;  // torchrun --max-restarts
  std::error_code ignored;
  const bool first = !launch || launch->rank == 0;
  alone_ = !launch || launch->world_size == 1;
  if (first && !journal_.empty()) OutputLock::check_free(lock_of(journal_));
  HEADLENS_CHECK(
      UsageError,
      !first || resume_ || journal_.empty() || !std::filesystem::exists(journal_, ignored),
      "[resume] {}, expected --resume to go on with an unfinished run (or the file "
      "removed), got neither",
      journal_.string());
  if (launch && flags.device.empty() && cuda_available()) flags.device = device_of(*launch);
  if (!first) flags.quiet = true;
  pool_ = pool_of(launch, shared.lost_after);
}

void SharedRun::start(const RunIdentity& identity, Manifest& manifest) {
  std::optional<Journal> journal;
  if (leads() && !journal_.empty()) {
    lock_.emplace(lock_of(journal_));
    note_.emplace(journal_, lock_of(journal_));
    journal = Journal::open(journal_, identity,
                            {{"command", manifest.command}, {"started", manifest.started}},
                            resume_ ? Journal::Existing::Resume : Journal::Existing::Refuse);
    manifest.command = journal->notes().at("command");
    manifest.started = journal->notes().at("started");
  }
  pool_->start(identity, std::move(journal));
}

void SharedRun::start(const CLI::App& command, const CommonFlags& flags, const TaskInfo& task,
                      const std::string& digest, Manifest& manifest) {
  start(run_identity(manifest, flags, task, digest, given_options(command)), manifest);
}

void SharedRun::finish() {
  pool_->finish();
  note_.reset(), lock_.reset();
}

void SharedRun::shrink_to_fit(int64_t tokens, const std::function<void(int64_t, WorkPool&)>& work,
                              int64_t least) {
  std::string prefix;  // batches of other sizes are other items
  for (;;) {
    PrefixedPool pool(*pool_, prefix);
    try {
      return work(tokens, pool);
    } catch (const std::exception& e) {
      if (!is_out_of_memory(e) || !alone_ || tokens <= least) throw;
    }
    release_memory();
    const int64_t fewer = std::max(tokens / 2, least);
    shrunk_ = Shrunk{shrunk_ ? shrunk_->times + 1 : 1, fewer};
    log_warn(fmt::format("[memory] out of memory with {} tokens a batch; going on with {}", tokens,
                         fewer));
    tokens = fewer;
    prefix = fmt::format("{} tokens a batch: ", tokens);
  }
}

void SharedRun::note_shrunk(std::map<std::string, std::string>& options) const {
  if (!shrunk_) return;
  options["out_of_memory"] = fmt::format("{}", shrunk_->times);
  options["batch_tokens_that_fit"] = fmt::format("{}", shrunk_->tokens);
}

}  // namespace headlens::cli
