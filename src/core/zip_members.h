// headlens/core: where the members of a zip archive in memory lie.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace headlens {

/// Where a member lies within its archive.
struct ZipMember {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool stored = true;  // as it is: neither compressed nor encrypted

  uint64_t size() const { return end - begin; }
};

/// Reads the directory of an archive (with or without the 64-bit extension) and checks that each
/// member lies within it. Throws CheckpointError, with `where` before the rest, for a cut archive,
/// a member outside it and a name given twice.
std::map<std::string, ZipMember, std::less<>> zip_members(std::string_view archive,
                                                          const std::string& where);

}  // namespace headlens
