// headlens/tests: a stranger's program that links some rooms only: a config and a tokenizer.
#include <headlens/model/families.h>
#include <headlens/model/tokenizer.h>

#include <cstdio>
#include <fstream>
#include <sstream>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::stringstream text;
  text << std::ifstream(std::string(argv[1]) + "/config.json").rdbuf();
  const headlens::ModelConfig config = headlens::parse_model_config(text.str());
  const auto tokenizer = headlens::Tokenizer::load(argv[1]);
  std::printf("%s: %zu layers, %lld tokens\n", config.family.c_str(), config.layers.size(),
              static_cast<long long>(tokenizer.vocab_size()));
  return config.layers.size() == 4 ? 0 : 1;
}
