// headlens/cli: `map`: maps of chosen heads over a text.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/ids.h"
#include "core/check.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/core/npz.h"
#include "headlens/core/safetensors.h"
#include "headlens/hooks/hook_set.h"
#include "headlens/hooks/reducers.h"
#include "headlens/model/head_map.h"
#include "headlens/report/html_report.h"
#include "headlens/report/json_report.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string text;
  std::vector<std::string> heads;
  std::vector<int64_t> rows;
  bool normalize = false;
};

using NamedMaps = std::vector<std::pair<std::string, Tensor>>;

/// Rows of each head's map over the text, [row, key], named "map.LAYER.HEAD".
NamedMaps read_maps(const LoadedModel& loaded, const Tensor& ids, const std::vector<HeadId>& heads,
                    const Flags& flags) {
  const int64_t length = ids.size(1);
  std::vector<int64_t> wanted = flags.rows;
  for (int64_t& row : wanted) {
    HEADLENS_CHECK(UsageError, row >= -length && row < length,
                   "[map] --rows, expected {} to {}, got {}", -length, length - 1, row);
    if (row < 0) row += length;
  }
  const Tensor rows = wanted.empty() ? at::arange(length) : at::tensor(wanted, at::kLong);
  NamedMaps maps;
  HookSet hooks(loaded.model.config());
  for (const HeadId& head : heads) {
    check_heads(loaded.model.config(), {{head.layer, head.first, head.last}});
    const std::string site = site_name(map_point(loaded.model.config(), head.layer));
    hooks.add_map(site, [&, head](TapPoint, HeadMap& map) {
      for (int64_t h = head.first; h <= head.last; ++h) {
        Tensor part = map.rows(rows.to(ids.device()), {h})[0][0];
        if (flags.normalize) part = normalized_rows(part, map.is_softmax());
        maps.emplace_back(fmt::format("map.{}.{}", head.layer, h),
                          part.to(at::kCPU, at::kFloat).contiguous());
      }
    });
  }
  loaded.model.run_layers(loaded.model.embed(ids), 0, loaded.model.layer_count(), &hooks);
  hooks.check_all_fired();
  return maps;
}

std::vector<std::string> token_texts(const Tokenizer& tokenizer, const Tensor& ids) {
  std::vector<std::string> tokens;
  const Tensor flat = ids.flatten().to(at::kCPU);
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const int64_t id = flat[i].item<int64_t>();
    tokens.push_back(tokenizer.decode(std::span(&id, 1)));
  }
  return tokens;
}

/// A page of maps without scores: the same page as `find`'s, with nothing but maps in it.
FindResult maps_only(const Flags& flags, const LoadedModel& loaded, const NamedMaps& maps,
                     const std::vector<HeadId>& heads, const std::vector<std::string>& tokens) {
  FindResult result = describe_model(loaded.model);
  result.model.name = flags.model;
  size_t next = 0;
  for (const HeadId& head : heads) {
    for (int64_t h = head.first; h <= head.last; ++h) {
      const Tensor& map = maps[next++].second;
      MapSample sample;
      sample.head = {head.layer, h, h};
      sample.tokens = tokens;
      sample.map.resize(map.size(0), map.size(1));
      for (int64_t i = 0; i < map.size(0); ++i) {
        for (int64_t j = 0; j < map.size(1); ++j)
          sample.map(i, j) = map.const_data_ptr<float>()[i * map.size(1) + j];
      }
      result.maps.push_back(std::move(sample));
      HeadScore score;
      score.head = {head.layer, h, h};
      score.kind = layer_kind_name(
          layer_kind(loaded.model.config().layers[static_cast<size_t>(head.layer)]));
      result.heads.push_back(std::move(score));
    }
  }
  return result;
}

int map(const Flags& flags) {
  HEADLENS_CHECK(UsageError, !flags.out.empty(),
                 "[map] --out, expected a .safetensors, .npz or .html file, got none");
  const std::string form = flags.out.extension().string();
  HEADLENS_CHECK(UsageError, form == ".safetensors" || form == ".npz" || form == ".html",
                 "[map] --out, expected a .safetensors, .npz or .html file, got '{}'",
                 flags.out.string());
  HEADLENS_CHECK(UsageError, form != ".html" || flags.rows.empty(),
                 "[map] --rows, expected whole maps for .html");
  const std::vector<HeadId> heads = parse_heads(flags.heads);
  const LoadedModel loaded = load_model(flags);
  c10::NoGradGuard no_grad;
  const Tensor ids = text_ids(loaded, flags.text, flags.bos).to(loaded.model.device());
  NamedMaps maps = read_maps(loaded, ids, heads, flags);
  if (form == ".html") {
    const auto tokens = token_texts(load_tokenizer(loaded.directory), ids);
    const FindResult page = maps_only(flags, loaded, maps, heads, tokens);
    write_report_file(flags.out, report_html(page, {"map", "map", 0, flags.seed, {}},
                                             make_manifest(flags, loaded.model)));
  } else {
    maps.emplace_back("input_ids", ids.to(at::kCPU));
    if (!flags.rows.empty()) maps.emplace_back("rows", at::tensor(flags.rows, at::kLong));
    if (form == ".npz") {
      save_npz(flags.out, maps);
    } else {
      save_safetensors(flags.out, maps,
                       {{"model", flags.model}, {"checkpoint", loaded.model.fingerprint()}});
    }
  }
  if (!flags.quiet)
    print(fmt::format("{} maps of {} tokens: {}\n", maps.size() - (form == ".html" ? 0 : 1),
                      ids.size(1), flags.out.string()));
  return 0;
}

}  // namespace

void add_map(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("map", "Maps of chosen heads over a text, whole or chosen rows");
  add_common_flags(*command, *flags);
  command->add_option("--text", flags->text, "the text")->required();
  command
      ->add_option("--heads", flags->heads,
                   "LAYER.HEAD, comma-separated; channels as LAYER.FIRST-LAST")
      ->delimiter(',')
      ->required();
  command->add_option("--rows", flags->rows, "rows to keep, negative from the end, comma-separated")
      ->delimiter(',');
  command->add_flag("--normalize", flags->normalize,
                    "|M_ij| / sum_j |M_ij| instead of M for state-space heads");
  command->add_flag("--bos", flags->bos, "put the tokenizer's start token before the text");
  command->callback([flags, &action] { action = [flags] { return map(*flags); }; });
}

}  // namespace headlens::cli
