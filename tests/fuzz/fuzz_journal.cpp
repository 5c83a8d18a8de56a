// headlens/tests: fuzzes the journals that a killed run goes on from.
#include <zlib.h>

#include <cstring>
#include <map>
#include <string>

#include "fuzz_tools.h"
#include "headlens/analysis/journal.h"

namespace {

constexpr std::string_view kMagic = "headlens.journal/1\n";

std::string number(uint32_t value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// A record with the right checksum, which no mutation would find.
std::string sealed(std::string_view key, std::string_view value) {
  const std::string body = number(static_cast<uint32_t>(key.size())) +
                           number(static_cast<uint32_t>(value.size())) + std::string(key) +
                           std::string(value);
  const auto crc = ::crc32_z(0, reinterpret_cast<const Bytef*>(body.data()), body.size());
  return number(static_cast<uint32_t>(crc)) + body;
}

/// The input: a whole file, or behind a '{' the JSON of a header and, behind NULs, values.
std::string journal_of(std::string_view input) {
  if (!input.starts_with('{')) return std::string(input);
  std::string file(kMagic);
  for (const std::string& part : headlens::fuzz::parts_of(input)) {
    file += sealed(file.size() == kMagic.size() ? "" : part.substr(0, 3), part);
  }
  return file + "rest";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  using headlens::Journal;
  const auto path = scratch.write("journal", journal_of(headlens::fuzz::view(data, size)));
  headlens::fuzz::only_errors([&] {
    const headlens::RunIdentity identity = {{"model", "m"}};
    size_t before = 0;
    {
      auto journal = Journal::open(path, identity, {}, Journal::Existing::Resume);
      journal.append("a new key", "value");
      before = journal.size();
    }
    const auto journal = Journal::open(path, identity, {}, Journal::Existing::Resume);
    headlens::fuzz::require(journal.size() == before && journal.find("a new key") != nullptr,
                            "a journal that goes on");
  });
  return 0;
}
