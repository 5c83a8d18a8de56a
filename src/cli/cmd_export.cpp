// headlens/cli: `export`: the heads of a result as arrays over layers and heads.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cmath>
#include <map>
#include <optional>

#include "cli/output.h"
#include "cli/table.h"
#include "cli/tensor_files.h"
#include "core/check.h"
#include "core/json_fields.h"

namespace headlens::cli {
namespace {

struct Flags {
  std::string result;
  std::filesystem::path out;
  bool quiet = false;
  bool json = false;
};

using Fields = std::map<std::string, double>;

/// One entry of a result's "heads": the channels of a group all have its figures.
struct HeadRow {
  int64_t layer = 0, first = 0, last = 0;
  Fields fields;
};

/// "none", "gather" and "aggregate" as 0, 1 and 2.
std::optional<double> role_number(const nlohmann::json& value) {
  static const std::map<std::string, double> kRoles = {
      {"none", 0}, {"gather", 1}, {"aggregate", 2}};
  const auto found = value.is_string() ? kRoles.find(value.get<std::string>()) : kRoles.end();
  return found == kRoles.end() ? std::nullopt : std::optional(found->second);
}

/// Numbers under their names, of intervals both ends, of objects every number.
void add_fields(Fields& fields, const std::string& name, const nlohmann::json& value) {
  if (value.is_number()) {
    fields[name] = value.get<double>();
  } else if (value.is_array() && value.size() == 2 && value[0].is_number()) {
    fields[name + "_low"] = value[0].get<double>();
    fields[name + "_high"] = value[1].get<double>();
  } else if (value.is_object()) {
    for (const auto& [key, inner] : value.items()) {
      add_fields(fields, fmt::format("{}.{}", name, key), inner);
    }
  } else if (name == "role") {
    if (const auto role = role_number(value)) fields[name] = *role;
  }
}

HeadRow read_row(const nlohmann::json& entry, const std::string& where) {
  const JsonFields head(entry, where);
  HeadRow row;
  row.layer = head.required<int64_t>("layer");
  row.first = row.last = head.required<int64_t>("head");
  if (head.has("channels")) {
    const auto channels = head.required<std::vector<int64_t>>("channels");
    HEADLENS_CHECK(ConfigError, channels.size() == 2,
                   "[{}] channels, expected first and last, got "
                   "{} numbers; make the result anew",
                   where, channels.size());
    row.first = channels[0], row.last = channels[1];
  }
  constexpr int64_t kMost = 1 << 20;
  HEADLENS_CHECK(
      ConfigError,
      row.layer >= 0 && row.layer < kMost && row.first >= 0 && row.first <= row.last &&
          row.last < kMost,
      "[{}] head, expected a layer and a head from 0 on, got {}.{}; make the result anew", where,
      row.layer, row.first);
  for (const auto& [name, value] : entry.items()) {
    if (name != "layer" && name != "head" && name != "channels") {
      add_fields(row.fields, name, value);
    }
  }
  return row;
}

std::vector<HeadRow> read_rows(const std::string& path) {
  const nlohmann::json result = read_json_file(path);
  const bool has = result.is_object() && result.contains("heads") && result["heads"].is_array();
  HEADLENS_CHECK(UsageError, has,
                 "[export] {}, expected a result with heads (of find, scores or attribute), got "
                 "one without",
                 path);
  std::vector<HeadRow> rows;
  for (size_t i = 0; i < result["heads"].size(); ++i) {
    rows.push_back(read_row(result["heads"][i], fmt::format("{} head {}", path, i)));
  }
  HEADLENS_CHECK(UsageError, !rows.empty(),
                 "[export] {}, expected at least one head, got none; run the command on more",
                 path);
  return rows;
}

/// float64 [layer, head] a field, NaN where a head has none.
NamedTensors arrays_of(const std::vector<HeadRow>& rows) {
  int64_t layers = 0, heads = 0;
  for (const HeadRow& row : rows) {
    layers = std::max(layers, row.layer + 1);
    heads = std::max(heads, row.last + 1);
  }
  std::map<std::string, Tensor> arrays;
  for (const HeadRow& row : rows) {
    for (const auto& [name, value] : row.fields) {
      Tensor& array = arrays[name];
      if (!array.defined()) array = at::full({layers, heads}, NAN, at::kDouble);
      array[row.layer].slice(0, row.first, row.last + 1).fill_(value);
    }
  }
  return {arrays.begin(), arrays.end()};
}

int export_heads(const Flags& flags) {
  check_tensor_file("export", flags.out);
  check_writable(flags.out);
  const NamedTensors arrays = arrays_of(read_rows(flags.result));
  save_tensors("export", flags.out, arrays, {{"result", flags.result}});
  Json listing = {{"out", flags.out.string()}, {"tensors", Json::array()}};
  Table table({"<array", "<dtype", "<shape"});
  for (const auto& [name, array] : arrays) {
    listing["tensors"].push_back(
        {{"name", name}, {"dtype", "float64"}, {"shape", array.sizes().vec()}});
    table.add({name, "float64", shape_string(array.sizes())});
  }
  print(flags.json ? json_text(listing) : table.text());
  return 0;
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "export", "The heads of a result as arrays [layer, head], for numpy and others");
  command
      ->add_option("RESULT", flags->result,
                   "scores.json of find, or the --out of scores or attribute")
      ->required();
  command->add_option("--out", flags->out, ".npz, .safetensors, .csv or .json file for the arrays")
      ->required();
  command->add_flag("--quiet", flags->quiet, "taken by every command; here there is no progress");
  command->add_flag("--json", flags->json, "print JSON instead of text");
  command->callback([flags, &action] { action = [flags] { return export_heads(*flags); }; });
}

}  // namespace headlens::cli
