// headlens/tests: fuzzes the index of a sharded checkpoint, which must not lead out of its folder.
#include <ATen/core/Tensor.h>

#include <nlohmann/json.hpp>

#include "fuzz_tools.h"
#include "headlens/core/checkpoint.h"

namespace {

namespace fs = std::filesystem;

/// A file of one tensor of a byte.
std::string one_tensor(const std::string& name) {
  const std::string header =
      nlohmann::json({{name, {{"dtype", "U8"}, {"shape", {1}}, {"data_offsets", {0, 1}}}}}).dump();
  return std::string(1, static_cast<char>(header.size())) + std::string(7, '\0') + header + "x";
}

/// A checkpoint of two shards in `inside`, one of them in a folder, and a whole file beside it.
fs::path make_checkpoint(const headlens::fuzz::Scratch& scratch) {
  fs::create_directories(scratch.path("inside/sub"));
  scratch.write("inside/config.json", "{}");
  scratch.write("inside/a.safetensors", one_tensor("a"));
  scratch.write("inside/sub/b.safetensors", one_tensor("b"));
  scratch.write("outside.safetensors", one_tensor("outside"));
  return scratch.path("inside");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  static const fs::path folder = make_checkpoint(scratch);
  scratch.write("inside/model.safetensors.index.json", headlens::fuzz::view(data, size));
  headlens::fuzz::only_errors([&] {
    const auto checkpoint = headlens::Checkpoint::open(folder);
    for (const std::string& name : checkpoint.names()) {
      const fs::path real = fs::canonical(checkpoint.file_of(name).path());
      headlens::fuzz::require(real.string().starts_with(fs::canonical(folder).string() + "/"),
                              "a shard inside the folder");
      headlens::fuzz::require(checkpoint.tensor(name).nbytes() == 1, "a tensor's size");
    }
    checkpoint.fingerprint();
  });
  return 0;
}
