// headlens/model: writing a model as a Hugging Face directory.
#include "headlens/model/checkpoint_writer.h"

#include <ATen/ATen.h>

#include "core/check.h"
#include "core/whole_file.h"
#include "headlens/core/safetensors.h"
#include "headlens/core/weight_scope.h"
#include "headlens/model/families.h"
#include "headlens/model/language_model.h"

namespace headlens {
namespace {

/// Throws unless the config's model takes exactly these tensors.
void check_weights(const ModelConfig& config, const std::map<std::string, Tensor>& weights) {
  const WeightScope scope = WeightScope::from_map(weights, at::kFloat, at::kCPU);
  LanguageModel::build(config, scope);
  scope.check_all_read(std::initializer_list<std::string>{});
}

}  // namespace

void save_checkpoint(const std::filesystem::path& dir, const ModelConfig& config,
                     const std::map<std::string, Tensor>& weights) {
  const std::string config_json = write_model_config(config);
  check_weights(config, weights);
  const at::ScalarType dtype = parse_dtype(config.dtype);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, tensor] : weights) {
    tensors.emplace_back(name, tensor.detach().to(dtype));
  }
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  HEADLENS_CHECK(CheckpointError, !error, "[{}] directory, expected to be made, got {}",
                 dir.string(), error.message());
  // Transformers wants to know which framework wrote the file.
  save_safetensors(dir / "model.safetensors", tensors, {{"format", "pt"}});
  write_whole_file(dir / "config.json", config_json);
}

}  // namespace headlens
