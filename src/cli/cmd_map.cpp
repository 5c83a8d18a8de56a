// headlens/cli: `map`: maps of chosen heads over a text.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <algorithm>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/heads.h"
#include "cli/ids.h"
#include "cli/map_view.h"
#include "cli/memory_notice.h"
#include "cli/output.h"
#include "cli/tensor_files.h"
#include "core/check.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/core/checkpoint.h"
#include "headlens/core/dtype.h"
#include "headlens/core/log.h"
#include "headlens/hooks/hook_set.h"
#include "headlens/hooks/reducers.h"
#include "headlens/model/head_map.h"
#include "headlens/report/html_report.h"
#include "headlens/report/json_report.h"
#include "headlens/report/maps_json.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string text;
  std::vector<std::string> heads;
  std::vector<int64_t> rows;
  bool normalize = false;
  MemoryFlags memory;
};

/// The map of one head over the text, [row, key].
struct ReadMap {
  HeadId head;  // one head or channel
  Tensor map;
  std::string name() const { return "map." + head_text(head); }
};

/// The rows asked for, counted from the first token; empty: all of them.
std::vector<int64_t> wanted_rows(const std::vector<int64_t>& asked, int64_t length) {
  std::vector<int64_t> rows = asked;
  for (int64_t& row : rows) {
    HEADLENS_CHECK(UsageError, row >= -length && row < length,
                   "[map] --rows, expected {} to {}, got {}", -length, length - 1, row);
    if (row < 0) row += length;
  }
  return rows;
}

/// Rows [row, key] of one head's map on the CPU, so many at once.
Tensor read_rows(const HeadMap& map, int64_t head, const Tensor& rows, int64_t at_once,
                 bool normalize) {
  std::vector<Tensor> parts;
  for (const Tensor& some : rows.split(at_once)) {
    Tensor part = map.rows(some, {head})[0][0];
    if (normalize) part = normalized_rows(part, map.is_softmax());
    if (part.scalar_type() != at::kDouble) part = part.to(at::kFloat);
    parts.push_back(part.to(at::kCPU).contiguous());
  }
  return parts.size() == 1 ? parts.front() : at::cat(parts);
}

/// One map a head or channel, in the order of `heads`; `at_once` rows of one are made together.
std::vector<ReadMap> read_maps(const LanguageModel& model, const Tensor& ids,
                               const std::vector<HeadId>& heads, const Tensor& rows,
                               int64_t at_once, bool normalize) {
  std::vector<ReadMap> maps;
  for (const HeadId& head : heads) {
    for (int64_t h = head.first; h <= head.last; ++h) maps.push_back({{head.layer, h, h}, {}});
  }
  HookSet hooks(model.config());
  for (ReadMap& wanted : maps) {
    const auto [layer, head, last] = wanted.head;
    const std::string site = site_name(map_point(model.config(), layer, head));
    const int64_t own =
        head - bank_of(model.config().layers[static_cast<size_t>(layer)], head).first;
    hooks.add_map(site, [&, own](TapPoint, HeadMap& map) {
      wanted.map = read_rows(map, own, rows, at_once, normalize);
    });
  }
  c10::NoGradGuard no_grad;
  const Tensor resid = model.embed(ids);
  model.run_layers(resid, 0, model.layer_count(), &hooks, nullptr, model.prompt_of(resid));
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

Eigen::MatrixXf to_matrix(const Tensor& map) {
  using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Tensor flat = map.to(at::kFloat).contiguous();
  return Eigen::Map<const Rows>(flat.const_data_ptr<float>(), flat.size(0), flat.size(1));
}

/// A page of maps without scores: the same page as `find`'s, with nothing but maps in it.
FindResult maps_page(const Flags& flags, const LoadedModel& loaded,
                     const std::vector<ReadMap>& maps, const Tensor& ids) {
  FindResult page = describe_model(loaded.model);
  page.model.name = flags.model;
  const auto tokens = token_texts(load_tokenizer(loaded, flags), ids);
  for (const ReadMap& read : maps) {
    MapSample sample;
    sample.head = read.head;
    sample.tokens = tokens;
    sample.map = to_matrix(read.map);
    page.maps.push_back(std::move(sample));
    HeadScore score;
    score.head = read.head;
    score.kind = head_kind_name(loaded.model.config(), read.head);
    page.heads.push_back(std::move(score));
  }
  return page;
}

/// The page, and beside it the JSON of its maps: whole, since they were asked for by name.
void write_page(const Flags& flags, const LoadedModel& loaded, const FindResult& page) {
  const MapLimits none;
  const Manifest manifest = make_manifest(flags, loaded);
  std::filesystem::path json = flags.out;
  write_report_file(json.replace_extension(".json"), maps_json(page, manifest, none));
  write_report_file(flags.out,
                    report_html(page, {"map", "map", 0, flags.seed, {}}, manifest, none));
}

void write_tensors(const Flags& flags, const LoadedModel& loaded, const std::vector<ReadMap>& maps,
                   const Tensor& ids, const Tensor& rows) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const ReadMap& read : maps) tensors.emplace_back(read.name(), read.map);
  tensors.emplace_back("input_ids", ids.to(at::kCPU));
  tensors.emplace_back("rows", rows.to(at::kCPU));
  save_tensors("map", flags.out, tensors,
               {{"model", flags.model}, {"checkpoint", loaded.model.fingerprint()}});
}

Json listing_json(const std::vector<ReadMap>& maps, int64_t tokens) {
  Json listing = {{"tokens", tokens}, {"maps", Json::array()}};
  for (const ReadMap& read : maps) {
    listing["maps"].push_back({{"name", read.name()},
                               {"layer", read.head.layer},
                               {"head", read.head.first},
                               {"shape", read.map.sizes().vec()}});
  }
  return listing;
}

void deliver_listing(const Flags& flags, const std::vector<ReadMap>& maps, int64_t tokens) {
  Json listing = {{"out", flags.out.string()}};
  listing.update(listing_json(maps, tokens));
  const std::string text =
      fmt::format("{} maps of {} tokens: {}\n", maps.size(), tokens, flags.out.string());
  print(flags.json ? json_text(listing) : text);
}

/// What the terminal shows, with every entry.
Json view_json(const std::vector<ReadMap>& maps, const std::vector<std::string>& tokens,
               const std::vector<int64_t>& rows) {
  Json json = listing_json(maps, std::ssize(tokens));
  json["token_texts"] = tokens;
  json["rows"] = rows;
  for (size_t m = 0; m < maps.size(); ++m) {
    const Eigen::MatrixXf map = to_matrix(maps[m].map);
    Json& entry = json["maps"][m];
    entry["least"] = map.minCoeff();
    entry["largest"] = map.maxCoeff();
    for (Eigen::Index r = 0; r < map.rows(); ++r) {
      const Eigen::RowVectorXf row = map.row(r);
      entry["values"].push_back(std::vector<float>(row.begin(), row.end()));
    }
  }
  return json;
}

/// A quick look, without any file.
void show_maps(const Flags& flags, const LoadedModel& loaded, const std::vector<ReadMap>& maps,
               const Tensor& ids, const Tensor& rows) {
  const std::vector<std::string> tokens = token_texts(load_tokenizer(loaded, flags), ids);
  const Tensor cpu = rows.to(at::kCPU);
  const std::vector<int64_t> shown(cpu.const_data_ptr<int64_t>(),
                                   cpu.const_data_ptr<int64_t>() + cpu.numel());
  if (flags.json) {
    check_written_values("map", "the JSON.json", std::ssize(maps) * rows.numel() * ids.numel());
    return print(json_text(view_json(maps, tokens, shown)));
  }
  std::vector<ViewedMap> views;
  for (const ReadMap& read : maps) {
    Eigen::MatrixXf map = to_matrix(read.map);
    const std::string title =
        fmt::format("{}: {:.3g} to {:.3g}", head_text(read.head), map.minCoeff(), map.maxCoeff());
    views.push_back({title, std::move(map)});
  }
  std::vector<std::string> row_tokens;
  for (const int64_t row : shown) row_tokens.push_back(tokens[static_cast<size_t>(row)]);
  print(maps_view(views, row_tokens, tokens, screen()));
}

void check_out(const Flags& flags) {
  if (flags.out.empty()) return;
  const std::string form = flags.out.extension().string();
  HEADLENS_CHECK(UsageError,
                 form == ".safetensors" || form == ".npz" || form == ".csv" || form == ".json" ||
                     form == ".html",
                 "[map] --out, expected a .safetensors, .npz, .csv, .json or .html file (or none, "
                 "to see the maps here), got '{}'",
                 flags.out.string());
  HEADLENS_CHECK(UsageError, form != ".html" || flags.rows.empty(),
                 "[map] --rows, expected none for .html (it shows whole maps), got {} rows",
                 flags.rows.size());
  check_writable(flags.out);
}

/// What a call comes to in bytes, counted before anything is loaded.
struct Room {
  int64_t tokens, rows, maps;
  int64_t weights;    // of files; those of random:DIR are known when they are made
  int64_t forward;    // of the whole text
  int64_t row;        // for one row of one map at a time
  int64_t results;    // all maps, on the host
  bool on_host;       // the model is
  int64_t at_once{};  // rows of a map that are made together
  int64_t work() const { return weights + forward + at_once * row; }
};

constexpr int64_t kPartsOfARow = 4;              // scores, exponentials, what is left, a copy of it
constexpr int64_t kRowBytes = int64_t{1} << 28;  // for rows at once, where no cap says less
constexpr std::string_view kOtherWays =
    "--rows takes some rows, headlens find reduces maps as they are made";

int64_t stored_weight_bytes(const Flags& flags, const ModelConfig& config, at::ScalarType wanted) {
  if (is_random_model(flags.model)) return 0;
  const int64_t stored = Checkpoint::open(model_directory(flags.model)).weight_bytes();
  return stored / element_size(parse_dtype(config.dtype)) * element_size(wanted);
}

Room room_of(const Flags& flags, const ModelConfig& config, const std::vector<HeadId>& heads,
             int64_t rows, int64_t tokens) {
  const Manifest plan = make_manifest(flags, config);  // the dtype and the devices it will have
  int64_t maps = 0;
  for (const HeadId& head : heads) maps += head.last - head.first + 1;
  const int64_t row = tokens * static_cast<int64_t>(sizeof(float));
  const std::string form = flags.out.extension().string();
  const int64_t copies = form == ".html" || form == ".npz" ? 2 : 1;  // as they are written
  return {.tokens = tokens,
          .rows = rows,
          .maps = maps,
          .weights = stored_weight_bytes(flags, config, parse_dtype(plan.dtype)),
          .forward = tokens * token_bytes(config),
          .row = kPartsOfARow * row,
          .results = copies * maps * rows * row,
          .on_host = plan.device == "cpu"};
}

/// As many rows at once as the cap leaves room for, one at least.
int64_t rows_at_once(const Room& room, int64_t cap) {
  const int64_t others = room.weights + room.forward + (room.on_host ? room.results : 0);
  const int64_t left = cap > 0 ? std::min(kRowBytes, cap - others) : kRowBytes;
  return std::clamp<int64_t>(left / room.row, 1, std::max<int64_t>(room.rows, 1));
}

/// Sets how many rows are made at once and says what is predicted. UsageError where a cap holds
/// less than that, Error where the maps are more than what is free.
void check_room(const Flags& flags, Room& room) {
  const int64_t host = gib_bytes("--max-host-memory", flags.memory.host);
  const int64_t gpu = gib_bytes("--max-gpu-memory", flags.memory.gpu);
  const int64_t there = free_host_memory();
  room.at_once = rows_at_once(room, room.on_host ? host : gpu);
  if (!flags.quiet) {
    log_info(
        fmt::format("[memory] predicted: weights {}, at most {} for {} tokens and {} rows at "
                    "once, {} for {} maps; {} free",
                    gib_text(room.weights), gib_text(room.work() - room.weights), room.tokens,
                    room.at_once, gib_text(room.results), room.maps, gib_text(there)));
  }
  const auto expect = [](const char* flag, int64_t cap, int64_t bytes) {
    HEADLENS_CHECK(UsageError, cap == 0 || bytes <= cap,
                   "[memory] {}, expected at least the {} of this call, got {}; {}", flag,
                   gib_text(bytes), gib_text(cap), kOtherWays);
  };
  expect("--max-host-memory", host, room.results + (room.on_host ? room.work() : 0));
  expect("--max-gpu-memory", gpu, room.on_host ? 0 : room.work());
  HEADLENS_CHECK(Error, room.results <= there,
                 "[map] {} maps of {} rows and {} keys, expected at most the {} of memory that are "
                 "free, got {}: {}",
                 room.maps, room.rows, room.tokens, gib_text(there), gib_text(room.results),
                 kOtherWays);
}

void hand_over(const Flags& flags, const LoadedModel& loaded, const std::vector<ReadMap>& maps,
               const Tensor& ids, const Tensor& rows) {
  if (flags.out.empty()) return show_maps(flags, loaded, maps, ids, rows);
  if (flags.out.extension() == ".html") {
    write_page(flags, loaded, maps_page(flags, loaded, maps, ids));
  } else {
    write_tensors(flags, loaded, maps, ids, rows);
  }
  deliver_listing(flags, maps, ids.size(1));
}

int map(const Flags& flags) {
  check_out(flags);
  const std::vector<HeadId> heads = parse_heads(flags.heads);
  const ModelIdentity identity = identify_model(flags);
  check_heads_exist(identity.config, heads);
  Tensor ids = text_ids(model_directory(flags.model), flags.text, flags);
  const int64_t tokens = ids.size(1);
  const std::vector<int64_t> wanted = wanted_rows(flags.rows, tokens);
  Tensor rows = wanted.empty() ? at::arange(tokens, at::kLong) : at::tensor(wanted, at::kLong);
  Room room = room_of(flags, identity.config, heads, rows.numel(), tokens);
  const bool stored = !is_random_model(flags.model);
  if (stored) check_room(flags, room);
  const LoadedModel loaded = load_model(flags);
  if (!stored) {
    room.weights = loaded.model.weight_bytes();
    check_room(flags, room);
  }
  ids = ids.to(loaded.model.device()), rows = rows.to(ids.device());
  const auto maps = read_maps(loaded.model, ids, heads, rows, room.at_once, flags.normalize);
  hand_over(flags, loaded, maps, ids, rows);
  return 0;
}

}  // namespace

void add_map(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("map", "Maps of chosen heads over a text, in the terminal or as a file");
  add_common_flags(
      *command, *flags,
      ".safetensors, .npz, .csv, .json or .html file for the maps (default: show them here)");
  command->add_option("--text", flags->text, "the text")->required();
  add_heads_flag(*command, flags->heads)->required();
  command->add_option("--rows", flags->rows, "rows to keep, negative from the end, comma-separated")
      ->delimiter(',');
  command->add_flag("--normalize", flags->normalize,
                    "|M_ij| / sum_j |M_ij| instead of M for state-space heads");
  add_memory_flags(*command, flags->memory);
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return map(*flags); }; });
}

}  // namespace headlens::cli
