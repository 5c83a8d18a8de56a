// headlens/cli: `run`: one forward pass, recorded.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/ids.h"
#include "core/check.h"
#include "headlens/hooks/recorder.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string text, ids;
  std::vector<std::string> record;
};

int run_forward(const Flags& flags) {
  HEADLENS_CHECK(UsageError, !flags.out.empty(), "[run] --out, expected a file, got none");
  HEADLENS_CHECK(UsageError, flags.text.empty() != flags.ids.empty(),
                 "[run] input, expected one of --text and --ids, got {}",
                 flags.text.empty() ? "neither" : "both");
  const LoadedModel loaded = load_model(flags);
  const Tensor ids =
      flags.ids.empty() ? text_ids(loaded, flags.text, flags.bos) : file_ids(flags.ids);
  RecordOptions options;
  options.device = at::kCPU;
  Recorder recorder(loaded.model.config(), flags.record, options);
  c10::NoGradGuard no_grad;
  loaded.model.forward(ids.to(loaded.model.device()), {.tap = &recorder});
  ActivationCache recorded = recorder.take();
  recorded.set("input_ids", ids);
  recorded.save(flags.out, {{"model", flags.model}, {"checkpoint", loaded.model.fingerprint()}});
  if (!flags.quiet) {
    for (const auto& [name, tensor] : recorded) {
      print(fmt::format("{:<44} {}\n", name, shape_string(tensor.sizes())));
    }
  }
  return 0;
}

}  // namespace

void add_run(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("run", "One forward pass; records sites by name or glob");
  add_common_flags(*command, *flags);
  command->add_option("--text", flags->text, "the prompt");
  command->add_option("--ids", flags->ids, "safetensors file with int64 input_ids [batch, pos]");
  command
      ->add_option("--record", flags->record,
                   "site names or globs (headlens inspect lists them); also: logits")
      ->required();
  command->add_flag("--bos", flags->bos, "put the tokenizer's start token before the text");
  command->callback([flags, &action] { action = [flags] { return run_forward(*flags); }; });
}

}  // namespace headlens::cli
