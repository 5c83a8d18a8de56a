// headlens/tests: writes report pages of made-up results into a folder, to be looked at in a
// browser.
#include <cstdio>
#include <exception>
#include <filesystem>

#include "headlens/report/html_report.h"
#include "headlens/report/json_report.h"
#include "samples/sample_result.h"

namespace {

void write(const std::filesystem::path& path, const headlens::testing::SampleReport& sample) {
  headlens::write_report_file(path,
                              headlens::report_html(sample.result, sample.task, sample.manifest));
  std::printf("%s\n", path.c_str());
}

}  // namespace

int main(int argc, char** argv) try {
  const std::filesystem::path folder = argc > 1 ? argv[1] : ".";
  using namespace headlens::testing;
  write(folder / "small.html", sample_transformer(4, 8, 8));
  write(folder / "channels.html", sample_mamba1());
  write(folder / "large.html", sample_transformer(32, 32, 60));
  write(folder / "hybrid.html", sample_hybrid());
  SampleReport bare = sample_transformer(2, 4, 3);
  bare.result.maps.clear();
  bare.result.gather.clear();
  bare.result.aggregate.clear();
  for (headlens::HeadScore& s : bare.result.heads) {
    s.role = headlens::HeadRole::None;
    s.map = {};
  }
  write(folder / "bare.html", bare);
  bare.result.heads.clear();
  write(folder / "empty.html", bare);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "write_sample_reports: error: %s\n", error.what());
  return 1;
}
