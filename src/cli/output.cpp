// headlens/cli: what a command hands over: text, JSON, files.
#include "cli/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/check.h"
#include "headlens/report/json_report.h"

namespace headlens::cli {
namespace fs = std::filesystem;

void print(const std::string& text) {
  const bool whole = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  HEADLENS_CHECK(Error, whole && std::fflush(stdout) == 0,
                 "[stdout] output, expected to be written, got: {}", std::strerror(errno));
}

std::string json_text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json manifest_json(const Manifest& m) {
  Json json = {{"headlens_version", m.headlens_version},
               {"git_revision", m.git_revision},
               {"torch_version", m.torch_version},
               {"command", m.command},
               {"checkpoint", m.checkpoint},
               {"device", m.device},
               {"dtype", m.dtype},
               {"seed", m.seed},
               {"started", m.started},
               {"seconds", m.seconds}};
  if (!m.options.empty()) json["options"] = m.options;
  return json;
}

void deliver(const CommonFlags& flags, const Json& json, const std::string& text) {
  if (!flags.out.empty()) write_report_file(flags.out, json_text(json));
  print(flags.json ? json_text(json) : text);
}

void check_writable(const fs::path& path) {
  if (path.empty()) return;
  std::error_code ignored;
  HEADLENS_CHECK(Error, !fs::is_directory(path, ignored),
                 "[out] {}, expected a file to write, got a directory", path.string());
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  HEADLENS_CHECK(Error, ::access(parent.c_str(), W_OK | X_OK) == 0,
                 "[out] {}, expected a directory to write in, got: {}", parent.string(),
                 std::strerror(errno));
}

void make_directory(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  HEADLENS_CHECK(Error, !error, "[out] {}, expected a directory, got: {}", path.string(),
                 error.message());
  check_writable(path / "scores.json");
}

}  // namespace headlens::cli
