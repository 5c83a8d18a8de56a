// headlens/cli: `verify`: a recording made elsewhere against our own.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/ids.h"
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
  double largest = 0;  // largest |ours - golden|
  double scale = 0;    // largest |golden|
  int64_t outside =
      0;  // entries with |ours - golden| > atol + rtol |golden|, or finite in one only
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
  const Tensor within = same.logical_or(difference <= flags.atol + flags.rtol * b.abs());
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

void print_rows(const std::vector<Row>& rows, const Flags& flags, bool failed) {
  if (flags.json) {
    nlohmann::ordered_json out = {{"atol", flags.atol}, {"rtol", flags.rtol}, {"agrees", !failed}};
    for (const Row& r : rows) {
      out["tensors"].push_back({{"name", r.name},
                                {"shape", r.shape},
                                {"max_difference", fmt::format("{:.6g}", r.largest)},
                                {"max_golden", r.scale},
                                {"outside", r.outside},
                                {"agrees", !differs(r)}});
    }
    print(out.dump(2) + "\n");
    return;
  }
  print(fmt::format("{:<44} {:<24} {:>12} {:>12} {:>9}\n", "tensor", "shape", "max |diff|",
                    "max |golden|", "outside"));
  for (const Row& r : rows) {
    print(fmt::format("{:<44} {:<24} {:>12.3e} {:>12.3e} {:>9} {}\n", r.name, r.shape, r.largest,
                      r.scale, r.outside, differs(r) ? "DIFFERS" : "ok"));
  }
  print(fmt::format(
      "{} of {} tensors agree within {} + {} |golden|\n",
      rows.size() - static_cast<size_t>(std::count_if(rows.begin(), rows.end(), differs)),
      rows.size(), flags.atol, flags.rtol));
}

int verify(const Flags& flags) {
  const LoadedModel loaded = load_model(flags);
  const SafetensorsFile golden = SafetensorsFile::open(flags.golden);
  const Tensor ids = file_ids(flags.golden);
  std::vector<std::string> names;
  for (const std::string& name : golden.names()) {
    if (name != "input_ids") names.push_back(name);
  }
  HEADLENS_CHECK(UsageError, !names.empty(),
                 "[verify] {}, expected tensors besides input_ids, got none", flags.golden);
  RecordOptions options;
  options.device = at::kCPU;
  Recorder recorder(loaded.model.config(), names, options);
  c10::NoGradGuard no_grad;
  loaded.model.forward(ids.to(loaded.model.device()), {.tap = &recorder});
  const ActivationCache ours = recorder.take();
  std::vector<Row> rows;
  for (const std::string& name : names)
    rows.push_back(compare(name, ours[name], golden.tensor(name), flags));
  const bool failed = std::any_of(rows.begin(), rows.end(), differs);
  print_rows(rows, flags, failed);
  return failed ? 1 : 0;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("verify", "Compares a forward with a recording, site by site");
  add_common_flags(*command, *flags);
  command
      ->add_option("--golden", flags->golden,
                   "safetensors with input_ids and tensors under site names")
      ->required();
  command->add_option("--atol", flags->atol, "absolute tolerance (default 1e-4)");
  command->add_option("--rtol", flags->rtol, "relative tolerance (default 1e-4)");
  command->callback([flags, &action] { action = [flags] { return verify(*flags); }; });
}

}  // namespace headlens::cli
