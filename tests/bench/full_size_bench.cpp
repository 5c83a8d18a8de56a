// headlens/bench: forwards and head ablations of a random model of Llama-3.1-8B's shape.
//
// full_size_bench [--device cuda|cpu] [--dtype bfloat16] [--scale 1]
// The weights are drawn on the device, so no checkpoint is needed. --scale 0.03 makes a toy of the
// same make-up for machines that have no GPU.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <exception>

#include "bench/full_size_models.h"
#include "headlens/analysis/ablation_sweep.h"

namespace headlens::bench {
namespace {

/// Random prompts of one length; the "right choice" is one of four tokens. What is timed does not
/// depend on what is in them.
class RandomPrompts final : public Objective {
 public:
  RandomPrompts(int64_t prompts, int64_t pos, int64_t vocab) : pos_(pos) {
    batch_.ids = at::randint(vocab, {prompts, pos}, at::kLong);
    batch_.logit_positions = at::full({prompts, 1}, pos - 1, at::kLong);
    for (int64_t i = 0; i < prompts; ++i) {
      batch_.examples.push_back(i);
      batch_.example_rows.push_back(i);
    }
    info_.length = pos;
  }
  int64_t tokens() const { return example_count() * pos_; }
  int64_t example_count() const override { return batch_.ids.size(0); }
  int64_t batch_count() const override { return 1; }
  const ObjectiveBatch& batch(int64_t) const override { return batch_; }
  const PromptInfo& prompt(int64_t) const override { return info_; }
  std::vector<std::vector<Verdict>> judge(int64_t, const Tensor& logits,
                                          int64_t variants) const override {
    const Tensor choices = logits.to(at::kFloat).log_softmax(-1).select(1, 0).narrow(1, 0, 4);
    const Tensor sums = choices.to(at::kCPU, at::kDouble).contiguous();
    const auto values = sums.accessor<double, 2>();
    std::vector<std::vector<Verdict>> out(static_cast<size_t>(variants));
    for (int64_t row = 0; row < values.size(0); ++row) {
      Verdict verdict;
      verdict.logprob = values[row][row % 4];
      out[static_cast<size_t>(row / example_count())].push_back(verdict);
    }
    return out;
  }

 private:
  int64_t pos_;
  ObjectiveBatch batch_;
  PromptInfo info_;
};

void row(const Flags& flags, const std::string& what, double ms, double flop) {
  const std::string rate = flop > 0 ? fmt::format("{:.1f}", flop / ms * 1e-9) : "-";
  fmt::print("| {:<44} | {:>10.2f} | {:>8} | {:>8.1f} |\n", what, ms, rate, peak_gib(flags.device));
  std::fflush(stdout);
  reset_peak(flags.device);
}

void forwards(const Flags& flags, const LanguageModel& model) {
  for (const int64_t full : {512, 2048, 8192}) {
    const int64_t pos = flags.scaled(full, 16);
    const Tensor ids = at::randint(model.config().vocab_size, {1, pos}, at::kLong).to(flags.device);
    const double ms = median_ms(flags.device, 5, [&] { model.forward(ids); });
    row(flags, fmt::format("forward 1 x {}", pos), ms,
        2 * multiplied(model) * static_cast<double>(pos));
  }
}

/// Four heads in each of three layers: early ones restart far from the end, late ones near it.
std::vector<HeadId> chosen_heads(const ModelConfig& config) {
  const auto layers = static_cast<int64_t>(config.layers.size());
  std::vector<HeadId> heads;
  for (const int64_t layer : {layers * 10 / 32, layers * 20 / 32, layers * 30 / 32}) {
    for (int64_t head = 0; head < 4; ++head) heads.push_back({layer, head, head});
  }
  return heads;
}

void sweeps(const Flags& flags, const LanguageModel& model) {
  const RandomPrompts prompts(flags.scaled(64, 4), flags.scaled(256, 16),
                              model.config().vocab_size);
  const std::vector<HeadId> heads = chosen_heads(model.config());
  const double flop = 2 * multiplied(model) * static_cast<double>(prompts.tokens());
  const std::string batch =
      fmt::format("{} x {}", prompts.example_count(), prompts.prompt(0).length);
  SweepOptions options;
  options.max_batch_tokens = prompts.tokens();
  const Tensor ids = prompts.batch(0).ids.to(flags.device);
  const Tensor last = prompts.batch(0).logit_positions.to(flags.device);
  // Without the unembedding of all positions, which a sweep never does; so its share is no FLOP.
  const double ms =
      median_ms(flags.device, 3, [&] { model.forward(ids, {.logit_positions = last}); });
  const double head_weights =
      static_cast<double>(model.config().vocab_size * model.config().d_model);
  row(flags, fmt::format("forward {}, last logits", batch), ms,
      flop - 2 * head_weights * static_cast<double>(prompts.tokens()));
  const double count = static_cast<double>(heads.size());
  const double plain =
      time_once(flags.device, [&] { ablate_one_by_one(model, prompts, heads, options); }) / count;
  row(flags, fmt::format("one head cut, {}, one by one", batch), plain, 0);
  ablation_sweep(model, prompts, {heads.back()}, options);
  const double shared =
      time_once(flags.device, [&] { ablation_sweep(model, prompts, heads, options); }) / count;
  row(flags, fmt::format("one head cut, {}, sweep", batch), shared, 0);
  fmt::print(
      "\none by one / sweep: {:.2f} ({} heads of 3 layers; the base forward is counted in)\n",
      plain / shared, heads.size());
}

void run(const Flags& flags) {
  const c10::NoGradGuard no_grad;
  const LanguageModel model = random_model(llama_8b(flags), flags);
  const ModelConfig& config = model.config();
  fmt::print(
      "\nrandom Llama: {} layers, d_model {}, {} heads, vocabulary {}; {:.2f} GB of {} on {}\n\n",
      config.layers.size(), config.d_model, head_count(config.layers[0]), config.vocab_size,
      static_cast<double>(model.weight_bytes()) * 1e-9, dtype_name(model.dtype()),
      model.device().str());
  fmt::print("| {:<44} | {:>10} | {:>8} | {:>8} |\n", "what", "ms", "TFLOP/s", "peak GiB");
  fmt::print("| --- | --- | --- | --- |\n");
  forwards(flags, model);
  sweeps(flags, model);
}

}  // namespace
}  // namespace headlens::bench

int main(int argc, char** argv) {
  try {
    headlens::bench::run(headlens::bench::Flags::parse(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "full_size_bench: error: {}\n", error.what());
    return 1;
  }
}
