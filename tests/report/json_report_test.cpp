// headlens/tests: scores.json against the contract of headlens.scores/1.
#include "headlens/report/json_report.h"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "headlens/core/error.h"
#include "samples/sample_result.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using nlohmann::json;
using testing::SampleReport;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

json scores(const SampleReport& s) {
  return json::parse(scores_json(s.result, s.task, s.manifest));
}

std::string scores_error(const SampleReport& s) {
  try {
    scores_json(s.result, s.task, s.manifest);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::set<std::string> keys(const json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) names.insert(name);
  return names;
}

/// Present with the very same double, or absent.
void expect_figure(const json& entry, const char* name, const std::optional<double>& value) {
  ASSERT_EQ(entry.contains(name), value.has_value()) << name;
  if (!value) return;
  EXPECT_EQ(entry.at(name).get<double>(), *value) << name;
}

TEST(ScoresJson, HoldsEveryFigureOfEveryHeadExactly) {
  for (const SampleReport& s : {testing::sample_transformer(4, 8, 6), testing::sample_mamba1()}) {
    const json document = scores(s);
    ASSERT_EQ(document.at("heads").size(), s.result.heads.size());
    for (size_t i = 0; i < s.result.heads.size(); ++i) {
      const HeadScore& h = s.result.heads[i];
      const json& entry = document.at("heads")[i];
      EXPECT_EQ(entry.at("layer"), h.head.layer);
      EXPECT_EQ(entry.at("head"), h.head.first);
      EXPECT_EQ(entry.at("kind"), h.kind);
      EXPECT_EQ(entry.at("role"), head_role_name(h.role));
      EXPECT_EQ(entry.at("near_ties"), *h.near_ties);
      expect_figure(entry, "accuracy", h.accuracy);
      expect_figure(entry, "accuracy_drop", h.accuracy_drop->value);
      EXPECT_EQ(entry.at("accuracy_drop_ci"), json({h.accuracy_drop->low, h.accuracy_drop->high}));
      expect_figure(entry, "logprob_drop", h.logprob_drop);
      expect_figure(entry, "drop_at_query", h.drop_at_query);
      expect_figure(entry, "drop_elsewhere", h.drop_elsewhere);
      expect_figure(entry, "drop_in_segments", h.drop_in_segments);
      expect_figure(entry, "drop_reading_segments", h.drop_reading_segments);
      expect_figure(entry, "entropy", h.map.entropy);
      expect_figure(entry, "entropy_norm", h.map.entropy_norm);
      expect_figure(entry, "row_mass", h.map.row_mass);
      expect_figure(entry, "gather", h.map.gather);
      expect_figure(entry, "gather_uniform", h.map.gather_uniform);
      expect_figure(entry, "aggregate", h.map.aggregate);
      expect_figure(entry, "aggregate_uniform", h.map.aggregate_uniform);
      expect_figure(entry, "target", h.map.target);
      expect_figure(entry, "target_uniform", h.map.target_uniform);
    }
  }
}

TEST(ScoresJson, HasTheContractsSections) {
  const SampleReport s = testing::sample_transformer(4, 8, 6);
  const json document = scores(s);
  EXPECT_EQ(keys(document), (std::set<std::string>{"schema", "model", "task", "base", "heads",
                                                   "circuit", "manifest"}));
  EXPECT_EQ(document.at("schema"), "headlens.scores/1");
  EXPECT_EQ(document.at("base"), json::parse(R"({"accuracy": 0.986, "accuracy_ci": [0.972, 0.993],
      "mean_logprob": -0.071, "near_ties": 4, "examples": 512})"));
  EXPECT_EQ(document.at("circuit"),
            json::parse(R"({"gather": [[1, 2]], "aggregate": [[2, 5], [3, 1]]})"));
  EXPECT_EQ(document.at("model"), json::parse(R"({"name": "zoo:sample-llama", "family": "llama",
      "architecture": "SampleForCausalLM", "fingerprint": "9f1c03aa57d2e841", "layers": 4,
      "d_model": 128, "vocab_size": 4096, "parameters": 1843200,
      "layer_kinds": ["attention", "attention", "attention", "attention"],
      "head_counts": [8, 8, 8, 8]})"));
  EXPECT_EQ(document.at("task"), json::parse(R"({"spec": "kv:pairs=6,n=512", "name": "kv",
      "examples": 512, "seed": 17, "params": {"n": "512", "pairs": "6"}})"));
  EXPECT_EQ(document.at("manifest").at("mode"), "zero");
  EXPECT_EQ(document.at("manifest").at("placement"), "post_norm");
  EXPECT_EQ(document.at("manifest").at("seconds"), 21.75);
  EXPECT_EQ(document.at("manifest").at("options").at("min_drop"), "0.05");
}

TEST(ScoresJson, HoldsACurveWhereThereIsOne) {
  SampleReport s = testing::sample_transformer(2, 2, 2);
  EXPECT_FALSE(scores(s).contains("curve"));
  s.result.curve = SizeCurve{"kv:pairs={}", 5, {4, 8}, {16, 16}, {}};
  s.result.curve->lines = {{{}, {{1, 0.8, 1}, {0.5, 0.3, 0.7}}},
                           {{{1, 2, 2}}, {{0.25, 0.1, 0.5}, {0, 0, 0.2}}}};
  EXPECT_EQ(scores(s).at("curve"), json::parse(R"({"task": "kv:pairs={}", "seed": 5,
      "sizes": [4, 8], "examples": [16, 16], "lines": [
      {"without": [], "accuracy": [1.0, 0.5], "accuracy_ci": [[0.8, 1.0], [0.3, 0.7]]},
      {"without": [[1, 2, 2]], "accuracy": [0.25, 0.0], "accuracy_ci": [[0.1, 0.5], [0.0, 0.2]]}]})"));
  s.result.curve->lines[1].accuracy[0].low = kNan;
  EXPECT_NE(scores_error(s).find("the curve's accuracy"), std::string::npos);
}

TEST(ScoresJson, GivesChannelsForMamba1Only) {
  const json attention = scores(testing::sample_transformer(2, 2, 2));
  for (const json& entry : attention.at("heads")) EXPECT_FALSE(entry.contains("channels"));
  const SampleReport s = testing::sample_mamba1();
  const json mamba = scores(s);
  for (size_t i = 0; i < s.result.heads.size(); ++i) {
    const HeadId& head = s.result.heads[i].head;
    EXPECT_EQ(mamba.at("heads")[i].at("channels"), json({head.first, head.last}));
  }
  EXPECT_EQ(mamba.at("circuit").at("gather"), json::parse("[[1, 57], [1, 50]]"));
  EXPECT_EQ(mamba.at("circuit_channels").at("gather"), json::parse("[[1, 57, 57], [1, 50, 50]]"));
}

TEST(ScoresJson, LeavesOutWhatWasNotComputed) {
  SampleReport s = testing::sample_transformer(1, 1, 2);
  s.result.heads[0] = {};
  s.result.heads[0].kind = "mamba2";
  EXPECT_EQ(scores(s).at("heads")[0],
            json::parse(R"({"layer": 0, "head": 0, "kind": "mamba2", "role": "none"})"));
}

TEST(ScoresJson, KeepsListsWhereThereIsNothing) {
  const json document = scores(SampleReport{});
  EXPECT_EQ(document.at("heads"), json::array());
  EXPECT_EQ(document.at("circuit"), json::parse(R"({"gather": [], "aggregate": []})"));
  EXPECT_EQ(document.at("model").at("layer_kinds"), json::array());
  EXPECT_EQ(document.at("task").at("params"), json::object());
}

TEST(ScoresJson, RefusesNumbersThatAreNotFinite) {
  const SampleReport good = testing::sample_transformer(1, 2, 2);
  SampleReport s = good;
  s.result.heads[1].map.entropy = kNan;
  EXPECT_EQ(scores_error(s),
            "[scores] entropy of layer 0 head 1, expected a finite number, got nan");
  s = good;
  s.result.heads[0].accuracy_drop->high = std::numeric_limits<double>::infinity();
  EXPECT_EQ(
      scores_error(s),
      "[scores] accuracy_drop of layer 0 head 0's upper end, expected a finite number, got inf");
  s = good;
  s.result.base.mean_logprob = -std::numeric_limits<double>::infinity();
  EXPECT_EQ(scores_error(s), "[scores] base mean_logprob, expected a finite number, got -inf");
  s = good;
  s.result.base.accuracy.value = kNan;
  EXPECT_EQ(scores_error(s), "[scores] base accuracy, expected a finite number, got nan");
}

TEST(ScoresJson, StaysUtf8WhateverAPathHolds) {
  SampleReport s = testing::sample_transformer(1, 1, 2);
  s.task.spec = "jsonl:caf\xe9.jsonl";
  EXPECT_EQ(scores(s).at("task").at("spec"), "jsonl:caf\xef\xbf\xbd.jsonl");
}

TEST(WriteReportFile, ReplacesTheFileOrSaysWhyNot) {
  const testing::TempDir dir;
  const auto path = dir.write("scores.json", "an older and longer text");
  write_report_file(path, "new\n");
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "new\n");
  const auto nowhere = dir.path() / "none" / "scores.json";
  try {
    write_report_file(nowhere, "x");
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), "[" + nowhere.string() +
                                "] file, expected to be created, got No such file or directory");
  }
}

}  // namespace
}  // namespace headlens
