// headlens/cli: `run`: one forward pass, recorded.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <optional>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/ids.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/tensor_files.h"
#include "core/check.h"
#include "headlens/hooks/recorder.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::optional<std::string> text, ids;
  std::vector<std::string> record;
};

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
  RecordOptions options;
  options.device = at::kCPU;
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
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return run_forward(*flags); }; });
}

}  // namespace headlens::cli
