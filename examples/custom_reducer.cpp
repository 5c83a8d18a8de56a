// headlens/examples: a reducer of one's own: reads sites as they stream by and keeps one number of
// each, never a tensor.
#include <ATen/ATen.h>
#include <headlens/headlens.h>

#include <cstdio>

using namespace headlens;

/// How long each head's output is on average: |z_h| over all positions, by layer.
struct OutputNorms final : Tap {
  std::map<int64_t, Tensor> norms;  // [head]
  bool wants(TapPoint point) const override { return point.site == Site::Z; }
  Tensor visit(TapPoint point, Tensor z) override {  // [batch, pos, head, d_head]
    norms[point.layer] = z.norm(2, -1).flatten(0, 1).mean(0);
    return z;  // the forward goes on with what comes back
  }
};

int main(int argc, char** argv) {
  if (argc != 2) return std::puts("usage: custom_reducer CHECKPOINT_DIRECTORY"), 2;
  const LanguageModel model = LanguageModel::load(argv[1]);
  const Tokenizer tokenizer = Tokenizer::load(argv[1]);
  const auto ids = tokenizer.encode("Which option is pen?\nA. camp\nB. pen\nC. anchor\nAnswer:");
  OutputNorms reducer;
  model.forward(at::tensor(ids).view({1, -1}), {.tap = &reducer});
  for (const auto& [layer, norms] : reducer.norms) {
    std::printf("layer %d:", static_cast<int>(layer));
    for (int64_t head = 0; head < norms.size(0); ++head) {
      std::printf(" %.1f", norms[head].item<double>());
    }
    std::printf("\n");
  }
}
