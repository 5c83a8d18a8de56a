// headlens/tests: forwards of full-size models, plain, with hooks that want nothing, with figures
// of every head.
//
// forward_bench [--device cuda] [--json FILE] [--only TEXT] [--scale 1]
#include <c10/core/GradMode.h>

#include <exception>

#include "bench/full_size_models.h"
#include "headlens/hooks/reducers.h"

namespace headlens::bench {
namespace {

/// A tap that is there and wants nothing.
class IdleTap final : public Tap {
 public:
  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
};

Tensor random_ids(const LanguageModel& model, int64_t batch, int64_t pos) {
  return at::randint(model.config().vocab_size, {batch, pos}, at::kLong);
}

/// The products' time at the card's own matmul rate, attention's causal half included.
double limit_ms(const LanguageModel& model, const Ceilings& card, int64_t batch, int64_t pos) {
  const double tokens = static_cast<double>(batch * pos);
  double attention = 0;
  for (const LayerSpec& layer : model.config().layers) {
    for (const HeadBank& bank : head_banks(layer)) {
      if (bank.kind != LayerKind::Attention) continue;
      attention += 2.0 * tokens * static_cast<double>(pos * bank.count * bank.width);
    }
  }
  return (2 * multiplied(model) * tokens + attention) / card.flop_per_ms;
}

/// Entropy and peak of every head, and the mass on that many equal segments, means over rows.
MapReduceOptions figures_of(int64_t pos, int64_t segments, at::Device device) {
  MapReduceOptions options;
  options.mean_rows = true;
  if (segments == 0) return options;
  options.num_segments = segments;
  options.segments = (at::arange(pos, at::kLong) * segments).floor_divide(pos).to(device);
  return options;
}

/// A forward with those figures, copied out once.
void forward_with_figures(const LanguageModel& model, const Tensor& ids,
                          const MapReduceOptions& wanted, const ForwardOptions& plain = {}) {
  MapReducer reducer(model.config(), wanted);
  ForwardOptions options = plain;
  options.tap = &reducer;
  model.forward(ids, options);
  std::vector<Tensor> figures;
  for (const int64_t layer : reducer.layers()) {
    const MapStats& stats = reducer.stats(layer);
    std::vector<Tensor> all = {stats.entropy.unsqueeze(-1), stats.max.unsqueeze(-1)};
    if (stats.segment_mass.defined()) all.push_back(stats.segment_mass);
    figures.push_back(at::cat(all, -1));
  }
  at::stack(figures).cpu();
}

class Bench {
 public:
  explicit Bench(const Flags& flags)
      : flags_(flags), card_(Ceilings::measure(flags)), report_(flags) {}

  void llama() {
    if (!any_wanted("llama-8b")) return;
    const LanguageModel model = random_model(llama_8b(flags_), flags_);
    for (const auto& [batch, pos] :
         {std::pair{1, 512}, {1, 2048}, {1, 8192}, {1, 32768}, {32, 1024}}) {
      plain("llama-8b", model, batch, pos);
    }
    for (const int64_t pos : {2048, 8192, 32768})
      figures("llama-8b forward + statistics", model, pos, kSegments);
    long_context(model);
  }

  void mamba2() {
    if (!any_wanted("mamba2")) return;
    const LanguageModel model = random_model(mamba2_8_layers(flags_), flags_);
    for (const int64_t pos : {512, 2048, 8192}) {
      plain("mamba2 8 layers", model, 1, pos);
      figures("mamba2 8 layers forward + entropy", model, pos, 0);
      figures("mamba2 8 layers forward + statistics", model, pos, kSegments);
    }
  }

 private:
  bool any_wanted(const std::string& family) const {
    return flags_.only.empty() || flags_.only.find(family) != std::string::npos;
  }

  void plain(const std::string& name, const LanguageModel& model, int64_t batch, int64_t full) {
    const std::string what = fmt::format("{} forward {}x{}", name, batch, full);
    const int64_t pos = flags_.scaled(full, 16);
    if (!flags_.wants(what)) return;
    const Tensor ids = random_ids(model, batch, pos);
    const double limit = limit_ms(model, card_, batch, pos);
    timed(what, limit, [&] { model.forward(ids); });
    IdleTap idle;
    timed(what + ", idle hooks", limit, [&] { model.forward(ids, {.tap = &idle}); });
    const Tensor last = at::full({batch, 1}, pos - 1, at::kLong);
    timed(what + ", last logits", limit, [&] { model.forward(ids, {.logit_positions = last}); });
  }

  static constexpr int64_t kSegments = 16;

  void figures(const std::string& name, const LanguageModel& model, int64_t full,
               int64_t segments) {
    const std::string what = fmt::format("{} 1x{}", name, full);
    const int64_t pos = flags_.scaled(full, 32);
    if (!flags_.wants(what)) return;
    const Tensor ids = random_ids(model, 1, pos);
    const double limit = limit_ms(model, card_, 1, pos);
    const MapReduceOptions wanted = figures_of(pos, segments, flags_.device);
    timed(what, limit, [&] { forward_with_figures(model, ids, wanted); });
  }

  /// 128k tokens, figures of every head, logits of the last token alone.
  void long_context(const LanguageModel& model) {
    const std::string what = "llama-8b forward + statistics 1x131072, last logits";
    const int64_t pos = flags_.scaled(131072, 64);
    if (!flags_.wants(what)) return;
    const Tensor ids = random_ids(model, 1, pos);
    const Tensor last = at::full({1, 1}, pos - 1, at::kLong);
    const MapReduceOptions wanted = figures_of(pos, kSegments, flags_.device);
    reset_peak(flags_.device);
    const double ms = time_once(flags_.device, [&] {
      forward_with_figures(model, ids, wanted, {.logit_positions = last});
    });
    report_.row(what, ms, limit_ms(model, card_, 1, pos), {{"peak_gib", peak_gib(flags_.device)}});
  }

  void timed(const std::string& what, double limit, const std::function<void()>& work) {
    reset_peak(flags_.device);
    const double ms = median_ms(flags_.device, 5, work);
    report_.row(what, ms, limit, {{"peak_gib", peak_gib(flags_.device)}});
  }

  Flags flags_;
  Ceilings card_;
  Report report_;
};

}  // namespace
}  // namespace headlens::bench

int main(int argc, char** argv) {
  try {
    const c10::NoGradGuard no_grad;
    headlens::bench::Bench bench(headlens::bench::Flags::parse(argc, argv));
    bench.llama();
    bench.mamba2();
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "forward_bench: error: {}\n", error.what());
    return 1;
  }
}
