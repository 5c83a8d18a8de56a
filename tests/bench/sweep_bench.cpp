// headlens/bench: exact zero ablation of every head, as issue-sized sweeps.
//
// sweep_bench [--device cuda|cpu] [--dtype bfloat16] [--scale 1] [--only kv|prompts|zoo] [--sample
// 8]
//             [--max-gpu-memory GIB] [--max-host-memory GIB] [--zoo DIR]
// Random weights of Llama-3.1-8B's shape, all heads:
//   kv       50 key:value pairs x 64 examples, 50 choices of two tokens. Token ids are drawn; the
//            lengths, 228 to 242, are what a tokenizer of that size makes of the study's prompt
//            (GPT-NeoX-20B's gave 227 to 242 without a start token; numbers are one token).
//   prompts  64 prompts of 256 tokens, judged at their last.
// and, on the CPU, the bundled Transformer (4 layers x 4 heads) on 512 examples, whose plain loop
// is timed by sweep_peer.py. --sample N times the heads of every N-th layer and says what all would
// take.
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <malloc.h>

#include <exception>

#include "bench/full_size_models.h"
#include "headlens/analysis/ablation_sweep.h"
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

void report(const SweepFlags& flags, const std::string& what, const SweepResult& result, double ms,
            size_t timed, size_t all) {
  const double each = ms * 1e-3 / static_cast<double>(timed);
  fmt::print("| {:<34} | {:>5} | {:>9.5f} | {:>10.3f} | {:>8.2f} |{}\n", what, timed, each,
             each * static_cast<double>(all) / 60, peak_gib(flags.device),
             timed < all ? fmt::format(" minutes for all {}, extrapolated", all) : "");
  const SweepMemory& m = result.memory;
  if (m.predicted > 0) {
    fmt::print("  memory: predicted {:.3f} GiB, seen {:.3f} ({:.1f} %); {} variants a batch\n",
               static_cast<double>(m.predicted) / (1 << 30),
               static_cast<double>(m.peak) / (1 << 30),
               100.0 * static_cast<double>(m.predicted) / static_cast<double>(m.peak), m.variants);
  }
  if (m.out_of_memory > 0) fmt::print("  {} batches ran out of memory\n", m.out_of_memory);
  std::fflush(stdout);
  reset_peak(flags.device);
}

void full_size(const SweepFlags& flags) {
  const LanguageModel model = random_model(llama_8b(flags), flags);
  const int64_t vocab = model.config().vocab_size, layers = model.layer_count();
  const auto all = all_heads(model.config(), 1);
  std::vector<HeadId> heads;  // of layers spread evenly, so that their mean is that of all
  for (const HeadId& head : all) {
    if (head.layer % flags.sample == (flags.sample - 1) / 2) heads.push_back(head);
  }
  fmt::print("\n{} layers, {} heads, {:.2f} GB of {} on {}\n\n", layers, all.size(),
             static_cast<double>(model.weight_bytes()) * 1e-9, dtype_name(model.dtype()),
             model.device().str());
  fmt::print("| {:<34} | {:>5} | {:>9} | {:>10} | {:>8} |\n| --- | --- | --- | --- | --- |\n",
             "exact zero ablation", "heads", "s a head", "minutes", "peak GiB");
  const auto sweep = [&](const std::string& what, std::vector<TokenizedExample> examples) {
    const auto objective =
        make_choice_objective(std::move(examples), flags.options.max_batch_tokens / 4);
    ablation_sweep(model, *objective, {all.back()}, flags.options);  // libraries set themselves up
    SweepResult result;
    const double ms = time_once(
        flags.device, [&] { result = ablation_sweep(model, *objective, heads, flags.options); });
    report(flags, what, result, ms, heads.size(), all.size());
  };
  const int64_t count = flags.scaled(64, 4);
  if (flags.wants("kv")) {
    const auto length = [&](int64_t i) { return flags.scaled(228 + i * 7 % 15, 16); };
    sweep(fmt::format("kv: 50 pairs x {}", count), drawn_examples(count, vocab, 50, length));
  }
  if (flags.wants("prompts")) {
    const int64_t pos = flags.scaled(256, 16);
    auto examples = drawn_examples(count, vocab, 4, [&](int64_t) { return pos; });
    for (TokenizedExample& example : examples) {
      for (auto& choice : example.choice_ids) choice.erase(choice.begin());
    }
    sweep(fmt::format("prompts: {} x {}", count, pos), std::move(examples));
  }
}

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
    std::vector<double> times;
    SweepResult result;
    for (int run = 0; run < 3; ++run) {
      times.push_back(
          time_once(at::kCPU, [&] { result = ablation_sweep(model, *objective, heads, options); }));
    }
    std::sort(times.begin(), times.end());
    fmt::print("sweep, {:>5} tokens a batch: {:8.1f} ms (median of 3), base accuracy {:.4f}\n",
               tokens, times[1], result.base.accuracy());
    if (tokens != 4096) continue;
    for (size_t h = 0; h < heads.size(); ++h) {
      fmt::print("  {}.{} accuracy {:.4f} mean log-probability {:.5f}\n", heads[h].layer,
                 heads[h].first, result.variants[h].accuracy(), result.variants[h].mean_logprob());
    }
  }
}

void run(const SweepFlags& flags) {
  const c10::NoGradGuard no_grad;
  if (flags.wants("kv") || flags.wants("prompts")) full_size(flags);
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
