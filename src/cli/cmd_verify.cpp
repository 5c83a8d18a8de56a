// headlens/cli: `verify`: a recording made elsewhere against our own.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/ranges.h>

#include <cmath>
#include <optional>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/ids.h"
#include "cli/output.h"
#include "cli/table.h"
#include "core/check.h"
#include "headlens/core/safetensors.h"
#include "headlens/hooks/hook_name.h"
#include "headlens/hooks/recorder.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string golden;
  std::optional<std::string> text, ids;  // where the golden has no input_ids
  bool skip_unknown = false;
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

Json rows_json(const std::vector<Row>& rows, const Flags& flags, bool agrees,
               const std::vector<std::string>& skipped) {
  Json out = {{"golden", flags.golden}, {"atol", flags.atol}, {"rtol", flags.rtol},
              {"agrees", agrees},       {"skipped", skipped}, {"tensors", Json::array()}};
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

std::vector<Cell> row_cells(const Row& r) {
  const Cell verdict = differs(r) ? Cell("DIFFERS", Ink::Bad) : Cell("ok", Ink::Good);
  if (!r.same_shape) return {r.name, r.shape, "", "", "", verdict};
  return {r.name,
          r.shape,
          fmt::format("{:.3e}", r.largest),
          fmt::format("{:.3e}", r.scale),
          fmt::format("{}", r.outside),
          verdict};
}

std::string rows_text(const std::vector<Row>& rows, const Flags& flags,
                      const std::vector<std::string>& skipped) {
  Table table({"<tensor", "<shape", "max |diff|", "max |golden|", "outside", "<"});
  for (const Row& r : rows) table.add(row_cells(r));
  const auto differing = static_cast<size_t>(std::count_if(rows.begin(), rows.end(), differs));
  const std::string left_out =
      skipped.empty() ? "" : fmt::format("left out, no site here: {}\n", fmt::join(skipped, ", "));
  return table.text() + left_out +
         fmt::format("{} of {} tensors agree within {} + {} |golden|\n", rows.size() - differing,
                     rows.size(), flags.atol, flags.rtol);
}

/// The ids that the golden was made of: its own, those of --ids, or those of --text.
Tensor golden_ids(const Flags& flags, const WeightFile& golden, const LoadedModel& loaded) {
  HEADLENS_CHECK(UsageError, !flags.text || !flags.ids,
                 "[verify] input, expected one of --text and --ids, got {}", "both");
  if (flags.text) return text_ids(loaded, *flags.text, flags);
  if (flags.ids) return file_ids(*flags.ids);
  HEADLENS_CHECK(CheckpointError, golden.has("input_ids"),
                 "[{}] tensor 'input_ids', expected in the file, got none; give the text with "
                 "--text or the ids with --ids",
                 flags.golden);
  return file_ids(flags.golden);
}

bool is_site(const ModelConfig& config, const std::string& name) {
  try {
    return !resolve_names(name, config).empty();
  } catch (const HookError&) {
    return false;
  }
}

/// Takes names that this model has no site for out of `names`, and gives them.
std::vector<std::string> take_unknown(const ModelConfig& config, std::vector<std::string>& names) {
  std::vector<std::string> unknown;
  std::erase_if(names, [&](const std::string& name) {
    if (is_site(config, name)) return false;
    unknown.push_back(name);
    return true;
  });
  return unknown;
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
    HEADLENS_FAIL(CheckpointError, "{} in {}; --skip-unknown leaves such tensors out", e.what(),
                  golden);
  }
}

/// By its name: .npz, .pt and .pth as what they are, all else as safetensors.
WeightFile open_golden(const std::filesystem::path& path) {
  const std::string form = path.extension().string();
  if (form == ".npz" || form == ".pt" || form == ".pth") return WeightFile::open(path);
  return SafetensorsFile::open(path);
}

int verify(const Flags& flags) {
  HEADLENS_CHECK(UsageError, flags.atol >= 0 && flags.rtol >= 0,
                 "[verify] --atol and --rtol, expected 0 or more, got {} and {}", flags.atol,
                 flags.rtol);
  check_writable(flags.out);
  const WeightFile golden = open_golden(flags.golden);
  const LoadedModel loaded = load_model(flags);
  const Tensor ids = golden_ids(flags, golden, loaded);
  std::vector<std::string> names = golden.names();
  std::erase(names, "input_ids");
  std::erase(names, "first");
  const std::vector<std::string> skipped =
      flags.skip_unknown ? take_unknown(loaded.model.config(), names) : std::vector<std::string>{};
  HEADLENS_CHECK(CheckpointError, !names.empty(),
                 "[verify] {}, expected tensors under site names (headlens inspect lists them) "
                 "besides input_ids, got none",
                 flags.golden);
  const Tensor first = golden.has("first") ? golden.tensor("first") : Tensor();
  const ActivationCache ours = record(loaded.model, ids, first, names, flags.golden);
  std::vector<Row> rows;
  for (const std::string& name : names) {
    rows.push_back(compare(name, ours[name], golden.tensor(name), flags));
  }
  const bool agrees = std::none_of(rows.begin(), rows.end(), differs);
  deliver(flags, rows_json(rows, flags, agrees, skipped), rows_text(rows, flags, skipped));
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
                   ".safetensors, .npz or .pt file with input_ids (and first, where rows are "
                   "padded) and tensors under site names, ours or TransformerLens's")
      ->required();
  command->add_option("--text", flags->text, "the text it was made of, where it has no input_ids");
  command->add_option("--ids", flags->ids, "safetensors or .npz file with its input_ids instead");
  command->add_flag("--skip-unknown", flags->skip_unknown,
                    "leave out tensors that this model has no site for, and name them");
  add_text_flags(*command, *flags);
  command->add_option("--atol", flags->atol, "absolute tolerance (default 1e-4)");
  command->add_option("--rtol", flags->rtol, "relative tolerance (default 1e-4)");
  command->callback([flags, &action] { action = [flags] { return verify(*flags); }; });
}

}  // namespace headlens::cli
