// headlens/bench: decoding with a random model of Llama-3.1-8B's shape, a token of each row a step.
//
// decode_bench [--device cuda|cpu] [--dtype bfloat16] [--scale 1] [--json FILE] [--only TEXT]
// The limit of a step is the time to read every weight once (16.06 GB), at the rate of a large
// copy.
#include <c10/core/GradMode.h>
#include <fmt/format.h>

#include <exception>

#include "bench/full_size_models.h"
#include "headlens/model/decoder.h"

namespace headlens::bench {
namespace {

/// Bytes read and written in a millisecond: by the copy engine or by a kernel, whichever is faster.
double copy_rate(const Flags& flags) {
  const int64_t count = flags.scaled(1 << 29, 1 << 20);
  const Tensor from = at::randn({count}, at::TensorOptions(flags.device));
  Tensor to = at::empty_like(from);
  const double copy = median_ms(flags.device, 10, [&] { to.copy_(from); });
  const double kernel = median_ms(flags.device, 10, [&] { at::mul_out(to, from, 2.0); });
  return 2.0 * static_cast<double>(from.nbytes()) / std::min(copy, kernel);
}

/// Milliseconds of a token: decoding `count` of them after the second step, which is recorded.
double token_ms(Decoder& decoder, const Flags& flags, int64_t count) {
  decoder.generate(3);
  return time_once(flags.device, [&] { decoder.generate(count); }) / static_cast<double>(count);
}

void decode(const Flags& flags, const LanguageModel& model, Report& report, double limit_ms,
            int64_t batch, int64_t prompt) {
  const std::string what = fmt::format("decode llama-8b batch {} prompt {}", batch, prompt);
  const int64_t pos = flags.scaled(prompt, 16), count = flags.scaled(128, 4);
  const auto index = at::TensorOptions(flags.device).dtype(at::kLong);
  const Tensor ids = at::randint(model.config().vocab_size, {batch, pos}, index);
  const auto timed = [&](const std::string& name, const std::vector<LayerHeads>& heads) {
    if (!flags.wants(name)) return;
    std::vector<double> times;
    for (int run = 0; run < 5; ++run) {
      Decoder decoder(model, ids, {.max_length = pos + count + 3});
      decoder.show_rows(heads);
      times.push_back(token_ms(decoder, flags, count));
    }
    std::sort(times.begin(), times.end());
    const double ms = times[times.size() / 2], rate = 1e3 * static_cast<double>(batch) / ms;
    report.row(name, ms, limit_ms, {{"tokens_per_second", rate}});
    fmt::print("  {:.1f} tokens/s\n", rate);
  };
  timed(what, {});
  if (batch > 1) return;
  std::vector<LayerHeads> all;
  for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
    all.push_back({layer, {0, 1, 2, 3}});
  }
  timed(what + ", rows of 4 heads a layer", all);
}

void run(const Flags& flags) {
  const c10::NoGradGuard no_grad;
  const LanguageModel model = random_model(llama_8b(flags), flags);
  const double rate = copy_rate(flags);
  const double limit_ms = static_cast<double>(model.weight_bytes()) / rate;
  fmt::print("\n{:.2f} GB of weights; a copy moves {:.0f} GB/s: {:.1f} tokens/s at most\n\n",
             static_cast<double>(model.weight_bytes()) * 1e-9, rate * 1e-6, 1e3 / limit_ms);
  Report report(flags);
  decode(flags, model, report, limit_ms, 1, 512);
  decode(flags, model, report, limit_ms, 8, 512);
  decode(flags, model, report, limit_ms, 1, 8192);
}

}  // namespace
}  // namespace headlens::bench

int main(int argc, char** argv) {
  try {
    headlens::bench::run(headlens::bench::Flags::parse(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "decode_bench: error: {}\n", error.what());
    return 1;
  }
}
