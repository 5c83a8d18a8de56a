// headlens/bench: exact zero ablation of every head, and the screen, on models of full size.
//
// sweep_bench [--model llama-8b|falcon-mamba-7b|mamba2-8b] [--only kv|prompts|shots|screen|zoo]
// [--sample 8]
//             [--device cuda|cpu] [--dtype bfloat16] [--scale 1] [--json FILE] [--zoo DIR]
//             [--max-gpu-memory GIB] [--max-host-memory GIB] [--batch-tokens 16384]
// Random weights of one shape; all heads, or for state-space models 16 groups of channels or heads
// a layer:
//   kv       50 key:value pairs x 64 examples, 50 choices of two tokens. Token ids are drawn; the
//            lengths, 228 to 242, are what a tokenizer of that size makes of the study's prompt
//            (GPT-NeoX-20B's gave 227 to 242 without a start token; numbers are one token).
//   prompts  64 prompts of 256 tokens, judged at their last.
//   shots    64 prompts of 768 tokens, nothing in common and then the first 640, as the questions
//            of a subject of MMLU share five examples.
//   screen   every head and channel estimated, then the first exactly: of Llama's 5 % on the
//   prompts,
//            of the others 256 on kv.
// and, on the CPU, the bundled Transformer (4 layers x 4 heads) on 512 examples, whose plain loop
// is timed by sweep_peer.py. --sample N times the heads of every N-th layer and says what all would
// take.
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <malloc.h>

#include <ctime>

#include <exception>

#include "bench/full_size_models.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/screening.h"
#include "headlens/core/log.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/objective.h"
#include "headlens/tasks/scoring.h"
#include "headlens/tasks/task.h"

namespace headlens::bench {
namespace {

struct SweepFlags : Flags {
  int64_t sample = 1;
  SweepOptions options;
  std::string model = "llama-8b";
  std::string zoo = HEADLENS_BENCH_ZOO;
  std::string dump;  // where sweep_peer.py's batches go
};

SweepFlags parse(int argc, char** argv) {
  SweepFlags flags;
  static_cast<Flags&>(flags) = Flags::parse(argc, argv);
  const auto bytes = [](const char* gib) {
    return static_cast<int64_t>(std::stod(gib) * 1024 * 1024 * 1024);
  };
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--sample") flags.sample = std::stoll(argv[i + 1]);
    if (name == "--max-gpu-memory") flags.options.max_gpu_bytes = bytes(argv[i + 1]);
    if (name == "--max-host-memory") flags.options.max_host_bytes = bytes(argv[i + 1]);
    if (name == "--batch-tokens") flags.options.max_batch_tokens = std::stoll(argv[i + 1]);
    if (name == "--model") flags.model = argv[i + 1];
    if (name == "--dump") flags.dump = argv[i + 1];
    if (name == "--zoo") flags.zoo = argv[i + 1];
  }
  return flags;
}

std::vector<TokenizedExample> drawn_examples(int64_t count, int64_t vocab, int64_t choices,
                                             const std::function<int64_t(int64_t)>& length) {
  std::vector<TokenizedExample> examples;
  uint64_t state = 1;
  const auto draw = [&] {  // any numbers will do: what is timed does not depend on them
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(vocab));
  };
  for (int64_t i = 0; i < count; ++i) {
    TokenizedExample example;
    for (int64_t p = 0; p < length(i); ++p) example.prompt_ids.push_back(draw());
    for (int64_t c = 0; c < choices; ++c) example.choice_ids.push_back({7, c + 10});
    example.answer = i % choices;
    examples.push_back(std::move(example));
  }
  return examples;
}

void print_memory(const SweepMemory& m) {
  if (m.predicted > 0) {
    fmt::print("  memory: predicted {:.3f} GiB, seen {:.3f} ({:.1f} %); {} variants a batch\n",
               static_cast<double>(m.predicted) / (1 << 30),
               static_cast<double>(m.peak) / (1 << 30),
               100.0 * static_cast<double>(m.predicted) / static_cast<double>(m.peak), m.variants);
  }
  if (m.out_of_memory > 0) fmt::print("  {} batches ran out of memory\n", m.out_of_memory);
}

ModelConfig config_of(const SweepFlags& flags) {
  if (flags.model == "llama-8b") return llama_8b(flags);
  if (flags.model == "falcon-mamba-7b") return falcon_mamba_7b(flags);
  if (flags.model == "mamba2-8b") return mamba2_8b(flags);
  throw UsageError(
      fmt::format("[sweep_bench] --model, expected llama-8b, falcon-mamba-7b or mamba2-8b, got {}",
                  flags.model));
}

/// What is cut at a time: heads of attention, and of state-space layers 16 groups.
std::vector<SweepTarget> all_targets(const ModelConfig& config) {
  constexpr int64_t kGroups = 16;
  std::vector<SweepTarget> targets;
  for (const HeadId& head : all_heads(config, kGroups)) {
    const HeadBank bank = head_banks(config.layers[static_cast<size_t>(head.layer)]).front();
    const bool grouped = bank.kind == LayerKind::Mamba2;
    const int64_t together = grouped ? std::max<int64_t>(1, bank.count / kGroups) : 1;
    if (head.first % together == 0) targets.emplace_back();
    targets.back().heads.push_back(head);
  }
  return targets;
}

class FullSize {
 public:
  explicit FullSize(const SweepFlags& flags)
      : flags_(flags), model_(described(random_model(config_of(flags), flags))), report_(flags) {}

  void run() {
    if (flags_.wants("kv")) sweep(fmt::format("sweep kv 50 pairs x {}", count_), *kv());
    if (flags_.wants("shots")) {
      sweep(fmt::format("sweep {}x{}", count_, 3 * pos_), *shots(0));
      sweep(fmt::format("sweep {}x{}, five sixths in common", count_, 3 * pos_),
            *shots(5 * pos_ / 2));
    }
    if (flags_.wants("prompts")) sweep(fmt::format("sweep a head {}x{}", count_, pos_), *prompts());
    if (flags_.wants("screen")) screen(flags_.model == "llama-8b" ? prompts() : kv());
  }

 private:
  LanguageModel described(LanguageModel model) const {
    fmt::print("\n{}: {} layers, {:.2f} GB of {} on {}\n\n", flags_.model, model.layer_count(),
               static_cast<double>(model.weight_bytes()) * 1e-9, dtype_name(model.dtype()),
               model.device().str());
    return model;
  }

  using Held = std::unique_ptr<const Objective>;
  Held kv() const {
    const auto length = [&](int64_t i) { return flags_.scaled(228 + i * 7 % 15, 16); };
    return objective(drawn_examples(count_, model_.config().vocab_size, 50, length));
  }
  Held prompts() const {
    auto examples =
        drawn_examples(count_, model_.config().vocab_size, 4, [&](int64_t) { return pos_; });
    for (TokenizedExample& example : examples) {
      for (auto& choice : example.choice_ids) choice.erase(choice.begin());
    }
    return objective(std::move(examples));
  }
  Held shots(int64_t common) const {
    auto examples =
        drawn_examples(count_, model_.config().vocab_size, 1, [&](int64_t) { return 3 * pos_; });
    const auto& first = examples.front().prompt_ids;
    for (TokenizedExample& example : examples) {
      std::copy(first.begin(), first.begin() + common, example.prompt_ids.begin());
      example.choice_ids = {{1}, {2}, {3}, {4}};
    }
    return objective(std::move(examples));
  }
  Held objective(std::vector<TokenizedExample> examples) const {
    return make_choice_objective(std::move(examples), flags_.options.max_batch_tokens / 4);
  }

  /// Milliseconds a target; of layers spread evenly with --sample, so that their mean is that of
  /// all.
  void sweep(const std::string& what, const Objective& objective) {
    const std::vector<SweepTarget> all = all_targets(model_.config());
    std::vector<SweepTarget> some;
    for (const SweepTarget& target : all) {
      if (target.heads[0].layer % flags_.sample == (flags_.sample - 1) / 2) some.push_back(target);
    }
    sweep_targets(model_, objective, {all.back()}, flags_.options);  // libraries set themselves up
    reset_peak(flags_.device);
    SweepResult result;
    const double ms = time_once(
        flags_.device, [&] { result = sweep_targets(model_, objective, some, flags_.options); });
    const double each = ms / static_cast<double>(some.size());
    report_.row(fmt::format("{} {}", flags_.model, what), each, 0,
                {{"peak_gib", peak_gib(flags_.device)}, {"timed", some.size()}});
    fmt::print("  {} of {} targets; {:.2f} minutes for all{}; peak {:.2f} GiB\n", some.size(),
               all.size(), each * static_cast<double>(all.size()) / 6e4,
               some.size() < all.size() ? ", extrapolated" : "", peak_gib(flags_.device));
    print_memory(result.memory);
  }

  void screen(const Held& objective) {
    estimate_heads(model_,
                   *make_choice_objective(drawn_examples(2, 64, 2, [](int64_t) { return 16; })),
                   {});  // libraries set themselves up
    reset_peak(flags_.device);
    ScreenEstimates estimates;
    const double estimated =
        time_once(flags_.device, [&] { estimates = estimate_heads(model_, *objective, {}); });
    const double peak = peak_gib(flags_.device);
    ScreenOptions options;
    if (flags_.model != "llama-8b") options.count = flags_.scaled(256, 8);
    const auto ablate = [&](const Objective& on, const std::vector<HeadId>& heads) {
      return ablation_sweep(model_, on, heads, flags_.options);
    };
    const std::vector<size_t> listed = shortlist(estimates, options, objective->example_count());
    std::vector<HeadId> heads;
    for (const size_t i : listed) heads.push_back(estimates.heads[i]);
    const std::vector<int64_t> few = few_examples(objective->example_count());
    const double measured = time_once(
        flags_.device, [&] { reorder(estimates, listed, ablate(*objective->part(few), heads)); });
    std::vector<HeadId> chosen;
    double layers = 0;
    for (const HeadScore& s : plan_screen(model_.config(), estimates, 1, options).chosen) {
      chosen.push_back(s.head);
      layers += static_cast<double>(s.head.layer) / static_cast<double>(model_.layer_count());
    }
    const auto rest = objective->part(other_examples(objective->example_count(), few));
    const double exact = time_once(flags_.device, [&] { ablate(*rest, chosen); });
    const auto evenly = [&](size_t count) {
      std::vector<HeadId> some;
      const std::vector<HeadId>& all = estimates.heads;
      for (size_t i = 0; i < count; ++i)
        some.push_back(all[(2 * i + 1) * all.size() / (2 * count)]);
      return some;
    };
    const double spread = time_once(flags_.device, [&] {
      ablate(*objective->part(few), evenly(listed.size()));
      ablate(*rest, evenly(chosen.size()));
    });
    report_.row(flags_.model + " screen", estimated + measured + exact, 0, {{"peak_gib", peak}});
    fmt::print(
        "  {} heads or channels estimated: {:.2f} s, peak {:.2f} GiB; a shortlist of {}: {:.2f} s; "
        "{} exactly: {:.2f} s, on average {:.2f} of the way up the model\n",
        estimates.heads.size(), estimated * 1e-3, peak, listed.size(), measured * 1e-3,
        chosen.size(), exact * 1e-3, layers / static_cast<double>(chosen.size()));
    fmt::print(
        "  as many heads spread evenly over the layers: {:.2f} s for both, {:.2f} s in all\n",
        spread * 1e-3, (estimated + spread) * 1e-3);
  }

  SweepFlags flags_;
  LanguageModel model_;
  Report report_;
  int64_t count_ = flags_.scaled(64, 4), pos_ = flags_.scaled(256, 16);
};

nlohmann::json to_json(const Tensor& matrix) {
  nlohmann::json rows = nlohmann::json::array();
  for (int64_t i = 0; i < matrix.size(0); ++i) {
    const Tensor row = matrix[i].contiguous();
    const auto* values = row.const_data_ptr<int64_t>();
    rows.push_back(std::vector<int64_t>(values, values + row.numel()));
  }
  return rows;
}

/// The task as large batches of rows, for the plain loop.
void dump_batches(const std::string& path, const std::vector<TokenizedExample>& examples) {
  nlohmann::json batches = nlohmann::json::array();
  for (const ScoringBatch& batch : make_batches(examples, 16384)) {
    nlohmann::json choices = nlohmann::json::array();
    for (const ChoicePicks& choice : batch.choices) {
      choices.push_back({choice.begin, choice.counts, choice.answer});
    }
    batches.push_back({{"ids", to_json(batch.rows.ids)},
                       {"positions", to_json(batch.rows.logit_positions)},
                       {"picks", to_json(batch.picks)},
                       {"choices", choices}});
  }
  std::ofstream(path) << batches;
}

void zoo(const SweepFlags& flags) {
  const std::filesystem::path dir = std::filesystem::path(flags.zoo) / "transformer";
  const LanguageModel model = LanguageModel::load(dir, {.dtype = at::kFloat});
  const Task task = make_task("kv:pairs=8,n=512", 0);
  const auto examples = tokenize(task, Tokenizer::load(dir));
  if (!flags.dump.empty()) dump_batches(flags.dump, examples);
  const auto heads = all_heads(model.config(), 1);
  fmt::print("\nbundled Transformer, {} heads, {} on the CPU, {} threads\n\n", heads.size(),
             task.info.spec, at::get_num_threads());
  for (const int64_t tokens : {512, 1024, 2048, 4096, 16384}) {
    SweepOptions options = flags.options;
    options.max_batch_tokens = tokens;
    const auto objective = make_choice_objective(examples, tokens / 4);
    std::vector<double> times, of_cpu;  // a busy machine's wall clock says little
    SweepResult result;
    for (int run = 0; run < 3; ++run) {
      const std::clock_t start = std::clock();
      times.push_back(
          time_once(at::kCPU, [&] { result = ablation_sweep(model, *objective, heads, options); }));
      of_cpu.push_back(1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
    }
    std::sort(times.begin(), times.end());
    std::sort(of_cpu.begin(), of_cpu.end());
    fmt::print(
        "sweep, {:>5} tokens a batch: {:8.1f} ms, {:8.1f} of CPU (medians of 3), base accuracy "
        "{:.4f}\n",
        tokens, times[1], of_cpu[1], result.base.accuracy());
    if (tokens != 4096) continue;
    for (size_t h = 0; h < heads.size(); ++h) {
      fmt::print("  {}.{} accuracy {:.4f} mean log-probability {:.5f}\n", heads[h].layer,
                 heads[h].first, result.variants[h].accuracy(), result.variants[h].mean_logprob());
    }
  }
}

void run(const SweepFlags& flags) {
  const c10::NoGradGuard no_grad;
  const bool full = flags.wants("kv") || flags.wants("prompts") || flags.wants("shots");
  if (full || flags.wants("screen")) FullSize(flags).run();
  if (flags.wants("zoo") && (flags.device.is_cpu() || !flags.only.empty())) zoo(flags);
}

}  // namespace
}  // namespace headlens::bench

int main(int argc, char** argv) {
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);  // as the command does
  ::mallopt(M_TRIM_THRESHOLD, 512 << 20);
  try {
    headlens::bench::run(headlens::bench::parse(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "sweep_bench: error: {}\n", error.what());
    return 1;
  }
}
