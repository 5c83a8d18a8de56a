// headlens/cli: what scripts/certify has found of a checkpoint.
#pragma once

#include <filesystem>
#include <string>

namespace headlens::cli {

/// One line from `headlens_certificate.json` beside the checkpoint (docs/certify.md): its verdict
/// and what it was reached with, or that it is another checkpoint's or cannot be read. Empty
/// without one.
std::string certificate_of(const std::filesystem::path& directory, const std::string& fingerprint);

}  // namespace headlens::cli
