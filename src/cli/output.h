// headlens/cli: what a command hands over: text, JSON, files.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/common.h"

namespace headlens::cli {

using Json = nlohmann::ordered_json;

/// Prints to stdout. Error if it cannot be written (a full disk, a closed pipe).
void print(const std::string& text);

/// JSON as it is printed and written: indented, one newline at the end, U+FFFD for what is no
/// UTF-8.
std::string json_text(const Json& json);

/// What produced a result; `options` where the command has written some.
Json manifest_json(const Manifest& manifest);

/// Prints the result: `json` with --json, else `text`; --out FILE gets the JSON in any case.
void deliver(const CommonFlags& flags, const Json& json, const std::string& text);

/// Error unless a file can be written at `path`: better said before the work than after it.
void check_writable(const std::filesystem::path& path);

/// Makes the directory, with its parents, where it is not there yet. Error if it cannot be written
/// to.
void make_directory(const std::filesystem::path& path);

}  // namespace headlens::cli
