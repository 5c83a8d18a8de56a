// headlens/cli: what scripts/certify has found of a checkpoint.
#include "cli/certificate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/json_fields.h"

namespace headlens::cli {
namespace {

std::string summary(const JsonFields& certificate, const std::string& fingerprint) {
  const auto verdict = certificate.required<std::string>("verdict");
  const auto made = certificate.required<std::string>("made");
  if (certificate.object("checkpoint").required<std::string>("fingerprint") != fingerprint) {
    return fmt::format("of another checkpoint ({}, {})", verdict, made);
  }
  return fmt::format("{} in {} against transformers {}, {}", verdict,
                     fmt::join(certificate.required<std::vector<std::string>>("dtypes"), ", "),
                     certificate.object("versions").required<std::string>("transformers"), made);
}

}  // namespace

std::string certificate_of(const std::filesystem::path& directory, const std::string& fingerprint) {
  const std::filesystem::path path = directory / "headlens_certificate.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  try {
    return summary(JsonFields(read_json_file(path), path.string()), fingerprint);
  } catch (const ConfigError& error) {
    return fmt::format("not readable: {}", error.what());
  }
}

}  // namespace headlens::cli
