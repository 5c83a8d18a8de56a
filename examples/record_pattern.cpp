// headlens/examples: records a pattern, in ten lines.
#include <ATen/ATen.h>
#include <headlens/headlens.h>

#include <cstdio>

using namespace headlens;

int main(int argc, char** argv) {
  if (argc != 2) return std::puts("usage: record_pattern CHECKPOINT_DIRECTORY"), 2;
  const LanguageModel model = LanguageModel::load(argv[1]);
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  const auto ids = tokenizer.encode("Which option is pen?\nA. camp\nB. pen\nC. anchor\nAnswer:");
  Recorder recorder(model.config(), {"blocks.3.attn.hook_pattern"});
  model.forward(at::tensor(ids).view({1, -1}), {.tap = &recorder});
  const Tensor pattern = recorder.cache()["blocks.3.attn.hook_pattern"];  // [batch, head, q, k]
  for (int head = 0; head < 4; ++head) {
    const auto [share, key] = pattern[0][head][-1].max(0);
    const int64_t read = ids[static_cast<size_t>(key.item<int64_t>())];
    std::printf("3.%d reads '%s' (%.2f)\n", head, tokenizer.decode({&read, 1}).c_str(),
                share.item<double>());
  }
}
