// headlens/cli: `verify`: a recording made elsewhere against our own.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <cmath>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/ids.h"
#include "cli/output.h"
#include "core/check.h"
#include "headlens/core/safetensors.h"
#include "headlens/hooks/recorder.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string golden;
  double atol = 1e-4, rtol = 1e-4;
};

/// How one tensor compares.
struct Row {
  std::string name, shape;
  double largest = 0;   // largest |ours - golden|
  double scale = 0;     // largest |golden|
  int64_t outside = 0;  // entries further apart than atol + rtol |golden|, or finite in one only
  bool same_shape = true;
};

Row compare(const std::string& name, const Tensor& ours, const Tensor& golden, const Flags& flags) {
  Row row{name, shape_string(golden.sizes())};
  row.same_shape = ours.sizes() == golden.sizes();
  if (!row.same_shape) {
    row.shape = fmt::format("{}, expected {}", shape_string(ours.sizes()), row.shape);
    return row;
  }
  const Tensor a = ours.to(at::kCPU, at::kDouble), b = golden.to(at::kDouble);
  const Tensor same = a.eq(b);  // also equal infinities
  const Tensor difference = at::where(same, at::zeros_like(a), (a - b).abs());
  // An infinity in the golden would allow anything: only the same one agrees with it.
  const Tensor close = difference.le(flags.atol + flags.rtol * b.abs()).logical_and(b.isfinite());
  const Tensor within = same.logical_or(close);
  row.outside = within.logical_not().sum().item<int64_t>();
  if (golden.numel() > 0) {
    row.largest = difference.nan_to_num(INFINITY).max().item<double>();
    row.scale = at::where(b.isfinite(), b.abs(), at::zeros_like(b)).max().item<double>();
  }
  return row;
}

bool differs(const Row& row) {
  return !row.same_shape || row.outside > 0;
}

Json rows_json(const std::vector<Row>& rows, const Flags& flags, bool agrees) {
  Json out = {{"golden", flags.golden},
              {"atol", flags.atol},
              {"rtol", flags.rtol},
              {"agrees", agrees},
              {"tensors", Json::array()}};
  for (const Row& r : rows) {
    Json entry = {{"name", r.name}, {"shape", r.shape}, {"agrees", !differs(r)}};
    if (r.same_shape) {
      entry["outside"] = r.outside;
      entry["max_difference"] = r.largest;  // null where one side is not finite
      entry["max_golden"] = r.scale;
    }
    out["tensors"].push_back(std::move(entry));
  }
  return out;
}

std::string row_text(const Row& r) {
  if (!r.same_shape) return fmt::format("{:<44} {} DIFFERS\n", r.name, r.shape);
  return fmt::format("{:<44} {:<24} {:>12.3e} {:>12.3e} {:>9} {}\n", r.name, r.shape, r.largest,
                     r.scale, r.outside, differs(r) ? "DIFFERS" : "ok");
}

std::string rows_text(const std::vector<Row>& rows, const Flags& flags) {
  std::string text = fmt::format("{:<44} {:<24} {:>12} {:>12} {:>9}\n", "tensor", "shape",
                                 "max |diff|", "max |golden|", "outside");
  for (const Row& r : rows) text += row_text(r);
  const auto differing = static_cast<size_t>(std::count_if(rows.begin(), rows.end(), differs));
  return text + fmt::format("{} of {} tensors agree within {} + {} |golden|\n",
                            rows.size() - differing, rows.size(), flags.atol, flags.rtol);
}

/// Our own tensors under the golden's names.
ActivationCache record(const LanguageModel& model, const Tensor& ids, const Tensor& first,
                       const std::vector<std::string>& names, const std::string& golden) {
  RecordOptions options;
  options.device = at::kCPU;
  try {
    Recorder recorder(model.config(), names, options);
    c10::NoGradGuard no_grad;
    model.forward(ids, {.tap = &recorder, .first = first});
    return recorder.take();
  } catch (const HookError& e) {  // the file names a site that this model does not have
    HEADLENS_FAIL(CheckpointError, "{} in {}", e.what(), golden);
  }
}

int verify(const Flags& flags) {
  HEADLENS_CHECK(UsageError, flags.atol >= 0 && flags.rtol >= 0,
                 "[verify] --atol and --rtol, expected 0 or more, got {} and {}", flags.atol,
                 flags.rtol);
  check_writable(flags.out);
  const SafetensorsFile golden = SafetensorsFile::open(flags.golden);
  const Tensor ids = file_ids(flags.golden);
  std::vector<std::string> names = golden.names();
  std::erase(names, "input_ids");
  std::erase(names, "first");
  HEADLENS_CHECK(CheckpointError, !names.empty(),
                 "[verify] {}, expected tensors besides input_ids, got none", flags.golden);
  const LoadedModel loaded = load_model(flags);
  const ActivationCache ours =
      record(loaded.model, ids, file_first(flags.golden), names, flags.golden);
  std::vector<Row> rows;
  for (const std::string& name : names) {
    rows.push_back(compare(name, ours[name], golden.tensor(name), flags));
  }
  const bool agrees = std::none_of(rows.begin(), rows.end(), differs);
  deliver(flags, rows_json(rows, flags, agrees), rows_text(rows, flags));
  return agrees ? 0 : 1;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("verify", "Compares a forward with a recording, site by site");
  add_common_flags(*command, *flags, "file for the result as JSON");
  command
      ->add_option("--golden", flags->golden,
                   "safetensors with input_ids (and first, where rows are padded) and tensors "
                   "under site names")
      ->required();
  command->add_option("--atol", flags->atol, "absolute tolerance (default 1e-4)");
  command->add_option("--rtol", flags->rtol, "relative tolerance (default 1e-4)");
  command->callback([flags, &action] { action = [flags] { return verify(*flags); }; });
}

}  // namespace headlens::cli
