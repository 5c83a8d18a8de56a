// headlens/tests: writes report pages of made-up results into a folder, for a browser's eyes.
#include <cstdio>
#include <exception>
#include <filesystem>

#include "headlens/report/html_report.h"
#include "headlens/report/json_report.h"
#include "headlens/report/maps_json.h"
#include "samples/sample_result.h"

namespace {

using headlens::MapLimits;
using headlens::testing::SampleReport;

/// NAME.html, and beside it the JSON that it may show numbers of.
void write(const std::filesystem::path& stem, const SampleReport& s,
           const MapLimits& limits = headlens::kReportMaps) {
  const auto file = [&](const char* end) { return std::filesystem::path(stem.string() + end); };
  headlens::write_report_file(file(".scores.json"), scores_json(s.result, s.task, s.manifest));
  headlens::write_report_file(file(".maps.json"), maps_json(s.result, s.manifest, limits));
  headlens::write_report_file(file(".html"), report_html(s.result, s.task, s.manifest, limits));
  std::printf("%s\n", file(".html").c_str());
}

/// As `headlens map` has it: maps alone, as many tokens as there are, none left out.
SampleReport maps_alone(SampleReport s) {
  s.result.base = {};
  s.result.maps.resize(2);
  s.result.heads.erase(s.result.heads.begin(), s.result.heads.end());
  for (headlens::MapSample& map : s.result.maps) {
    headlens::HeadScore head;
    head.head = map.head;
    head.kind = "attention";
    s.result.heads.push_back(head);
  }
  s.result.gather.clear();
  s.result.aggregate.clear();
  return s;
}

SampleReport with_curve(SampleReport s) {
  headlens::SizeCurve curve{"kv:pairs={},n=128", 18, {4, 8, 16, 24}, {128, 128, 128, 128}, {}};
  const auto line = [&](std::vector<headlens::HeadId> without, std::vector<double> accuracy) {
    headlens::CurveLine made{std::move(without), {}};
    for (const double a : accuracy) made.accuracy.push_back({a, a - 0.06, a + 0.01});
    curve.lines.push_back(std::move(made));
  };
  line({}, {0.984, 0.961, 0.852, 0.703});
  line({s.result.gather.front()}, {0.313, 0.164, 0.102, 0.078});
  line({s.result.aggregate.front()}, {0.352, 0.211, 0.125, 0.086});
  s.result.curve = std::move(curve);
  return s;
}

SampleReport without_roles() {
  SampleReport bare = headlens::testing::sample_transformer(2, 4, 3);
  bare.result.maps.clear();
  bare.result.gather.clear();
  bare.result.aggregate.clear();
  for (headlens::HeadScore& s : bare.result.heads) {
    s.role = headlens::HeadRole::None;
    s.map = {};
  }
  return bare;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::filesystem::path folder = argc > 1 ? argv[1] : ".";
  using namespace headlens::testing;
  constexpr int64_t kPairsOf4096Tokens = 1023;
  std::filesystem::create_directories(folder);
  write(folder / "small", with_curve(sample_transformer(4, 8, 8)));
  write(folder / "channels", sample_mamba1());
  write(folder / "hybrid", sample_hybrid());
  const SampleReport large = sample_transformer(32, 32, kPairsOf4096Tokens);
  write(folder / "large", large);
  write(folder / "whole", maps_alone(large), MapLimits{});
  SampleReport bare = without_roles();
  write(folder / "bare", bare);
  bare.result.heads.clear();
  write(folder / "empty", bare);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "write_sample_reports: error: %s\n", error.what());
  return 1;
}
