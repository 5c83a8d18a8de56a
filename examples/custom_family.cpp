// headlens/examples: a family of one's own: Llama, but every layer sees four tokens back and no
// further. Nothing is registered: the loader is handed the family.
#include <headlens/headlens.h>

#include <cstdio>

using namespace headlens;

/// What config.json means: here Llama's keys, and a window that they do not say.
ModelConfig parse(std::string_view config_json) {
  ModelConfig config = parse_model_config(config_json);
  for (LayerSpec& layer : config.layers) std::get<AttentionSpec>(*layer.mixer).window = 4;
  return config;
}

int main(int argc, char** argv) {
  if (argc != 2) return std::puts("usage: custom_family CHECKPOINT_DIRECTORY"), 2;
  const CustomFamily near{.name = "near-llama", .parse = parse, .tensors = tensor_names("llama")};
  const LanguageModel model = LanguageModel::load(argv[1], {.family = near});
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  const auto examples = tokenize(make_task("mcq:options=4,n=64", /*seed=*/0), tokenizer);
  std::printf("%s: %d layers, accuracy %.2f\n", model.config().family.c_str(),
              static_cast<int>(model.layer_count()), evaluate(model, examples).accuracy);
}
