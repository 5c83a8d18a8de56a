// headlens/tests: fuzzes config.json of every family.
#include <algorithm>
#include <span>

#include "fuzz_tools.h"
#include "headlens/model/config.h"
#include "headlens/model/families.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  headlens::fuzz::only_errors([&] {
    const auto config = headlens::parse_model_config(headlens::fuzz::view(data, size));
    headlens::fuzz::require(config.layers.size() <= 4096, "a bounded number of layers");
    for (const headlens::LayerSpec& layer :
         std::span(config.layers).first(std::min<size_t>(config.layers.size(), 8))) {
      headlens::fuzz::require(headlens::head_count(layer) >= 0, "a number of heads");
      headlens::layer_kind_name(layer);
    }
    headlens::ignored_tensors(config);
    headlens::write_model_config(config);  // reads what it writes
  });
  return 0;
}
