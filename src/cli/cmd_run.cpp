// headlens/cli: `run`: one forward pass, recorded.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <optional>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/ids.h"
#include "cli/memory_notice.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/tensor_files.h"
#include "core/check.h"
#include "headlens/core/log.h"
#include "headlens/hooks/recorder.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::optional<std::string> text, ids;
  std::vector<std::string> record;
  MemoryFlags memory;
};

std::filesystem::path folder_of(const std::filesystem::path& out) {
  return out.has_parent_path() ? out.parent_path() : std::filesystem::path(".");
}

/// Bytes that the output's disk has left; a device has no size.
int64_t free_disk(const std::filesystem::path& out) {
  using std::filesystem::file_type;
  if (std::filesystem::status(out).type() == file_type::character) return INT64_MAX;
  return static_cast<int64_t>(std::filesystem::space(folder_of(out)).available);
}

/// Error unless `wanted` of `what` is there.
void check_room(int64_t wanted, int64_t there, const Tensor& ids, const char* what,
                const char* else_try) {
  HEADLENS_CHECK(Error, wanted <= there,
                 "[run] recording of {} tokens, expected at most the {} of {} that are free, got "
                 "{}: {}record less, or let maps be reduced as they are made (headlens map --rows, "
                 "headlens find)",
                 ids.numel(), gib_text(there), what, gib_text(wanted), else_try);
}

/// Where a recording of `ids` goes. Error, before anything of it is made, if there is no room.
RecordBudget plan_recording(const Flags& flags, const LanguageModel& model, const Tensor& ids) {
  const auto sum_of = [&](const auto& count) {
    return count(model.config(), flags.record, ids.size(0), ids.size(1), model.dtype(),
                 RecordOptions{});
  };
  const int64_t bytes = sum_of(recording_bytes), largest = sum_of(largest_recorded_bytes);
  const int64_t cap = gib_bytes("--max-host-memory", flags.memory.host);
  const int64_t on_disk = cap > 0 ? std::max<int64_t>(0, bytes - cap) : 0;
  check_room(largest, free_memory(model.devices()), ids, "memory, by its largest tensor", "");
  if (cap == 0) {
    check_room(bytes, free_host_memory(), ids, "memory",
               "--max-host-memory puts the rest on disk; or ");
  }
  check_room(bytes + on_disk, free_disk(flags.out), ids, "disk", "");  // twice, until it is whole
  if (!flags.quiet) {
    log_info(fmt::format("[memory] predicted: weights {}, recording {}, {} of it on disk; {} free",
                         gib_text(model.weight_bytes()), gib_text(bytes), gib_text(on_disk),
                         gib_text(free_host_memory())));
  }
  const int64_t gpu = memory_cap(flags.memory, model.devices()) - model.weight_bytes();
  const bool on_device = !model.device().is_cpu();
  return {on_device ? std::max<int64_t>(0, gpu / 2) : 0, cap > 0 ? cap : -1, folder_of(flags.out)};
}

void deliver_listing(const Flags& flags, const ActivationCache& recorded) {
  Json listing = {{"out", flags.out.string()}, {"tensors", Json::array()}};
  Table table({"<tensor", "<dtype", "<shape"});
  for (const auto& [name, tensor] : recorded) {
    listing["tensors"].push_back({{"name", name},
                                  {"dtype", dtype_name(tensor.scalar_type())},
                                  {"shape", tensor.sizes().vec()}});
    table.add({name, dtype_name(tensor.scalar_type()), shape_string(tensor.sizes())});
  }
  print(flags.json ? json_text(listing) : table.text());
}

int run_forward(const Flags& flags) {
  HEADLENS_CHECK(UsageError, !flags.out.empty(), "[run] --out, expected a file, got none");
  HEADLENS_CHECK(UsageError, flags.text.has_value() != flags.ids.has_value(),
                 "[run] input, expected one of --text and --ids, got {}",
                 flags.text ? "both" : "neither");
  HEADLENS_CHECK(UsageError, !(flags.ids && flags.bos),
                 "[run] --bos, expected with --text, got it with {}", "--ids");
  HEADLENS_CHECK(UsageError, !flags.ids || flags.tokenizer.empty(),
                 "[run] --tokenizer, expected with --text, got it with {}", "--ids");
  check_tensor_file("run", flags.out);
  check_writable(flags.out);
  const LoadedModel loaded = load_model(flags);
  const Tensor ids = flags.text ? text_ids(loaded, *flags.text, flags) : file_ids(*flags.ids);
  check_forward_inputs(loaded.model.config(), ids);
  RecordOptions options;
  options.budget = plan_recording(flags, loaded.model, ids);
  Recorder recorder(loaded.model.config(), flags.record, options);
  c10::NoGradGuard no_grad;
  const Tensor first = flags.ids ? file_first(*flags.ids) : Tensor();
  loaded.model.forward(ids.to(loaded.model.device()), {.tap = &recorder, .first = first});
  ActivationCache recorded = recorder.take();
  recorded.set("input_ids", ids);
  if (first.defined()) recorded.set("first", first);
  save_tensors("run", flags.out, {recorded.begin(), recorded.end()},
               {{"model", flags.model}, {"checkpoint", loaded.model.fingerprint()}});
  deliver_listing(flags, recorded);
  return 0;
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("run", "One forward pass; records sites by name or glob");
  add_common_flags(*command, *flags, ".safetensors, .npz, .csv or .json file for the recording");
  command->add_option("--text", flags->text, "the prompt");
  command->add_option(
      "--ids", flags->ids,
      "safetensors file with int64 input_ids [batch, pos] and, for left-padded rows, "
      "first [batch]");
  command
      ->add_option("--record", flags->record,
                   "site names or globs (headlens inspect lists them); also: logits")
      ->required();
  add_memory_flags(*command, flags->memory);
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return run_forward(*flags); }; });
}

}  // namespace headlens::cli
