// headlens/cli: what to do about an error whose words do not say so themselves.
#pragma once

#include <filesystem>
#include <string>

namespace headlens::cli {

/// "[..] what, expected X, got Y" says what to do where X is something to give. Where X is only
/// that something should have worked (a file opened, memory enough), "; " and a remedy are added.
/// A message that has a "; " already stays as it is.
std::string with_remedy(const std::string& message);

/// The line for a GPU that stopped working: `failure` is what it answers ("cuda:0: ..."), `kept`
/// the journal that is left, empty if none is.
std::string lost_device_line(const std::string& failure, const std::filesystem::path& kept);

}  // namespace headlens::cli
