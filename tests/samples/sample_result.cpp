// headlens/tests: made-up results that look like real ones, for tests and pictures of the report.
#include "samples/sample_result.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace headlens::testing {
namespace {

using Rows = Eigen::MatrixXf;

struct Prompt {
  std::vector<std::string> tokens;
  std::vector<std::pair<int64_t, int64_t>> segments;
  int64_t target = 0;
};

/// "<s>key:value\nkey:value\n ... key:"
Prompt kv_prompt(int64_t pairs) {
  const std::vector<std::string> keys = {" amber", " birch", " cedar", " dune",
                                         " ember", " fjord", " grove", " heath",
                                         " islet", " junco", " kelp",  " larch"};
  const std::vector<std::string> values = {" nine", " zinc", " rook", " Ümit",
                                           " volt", " iron", " wasp"};
  Prompt p{{"<s>"}, {}, pairs / 3};
  for (int64_t i = 0; i < pairs; ++i) {
    const auto start = static_cast<int64_t>(p.tokens.size());
    const auto k = static_cast<size_t>(i);
    for (const std::string& t :
         {keys[k % keys.size()], std::string(":"), values[k % values.size()], std::string("\n")}) {
      p.tokens.push_back(t);
    }
    p.segments.emplace_back(start, start + 3);
  }
  p.tokens.push_back(keys[static_cast<size_t>(p.target) % keys.size()]);
  p.tokens.push_back(":");
  return p;
}

void normalize_rows(Rows& m) {
  for (Eigen::Index i = 0; i < m.rows(); ++i) m.row(i) /= m.row(i).cwiseAbs().sum();
}

/// Every row looks back with a decay, and at the first token.
Rows background(const Prompt& p, double decay, std::mt19937& rng) {
  const auto n = static_cast<Eigen::Index>(p.tokens.size());
  std::uniform_real_distribution<float> noise(0.3f, 1.0f);
  Rows m = Rows::Zero(n, n);
  for (Eigen::Index i = 0; i < n; ++i) {
    for (Eigen::Index j = 0; j <= i; ++j) {
      m(i, j) = noise(rng) * static_cast<float>(std::exp(-decay * static_cast<double>(i - j)));
    }
    m(i, 0) += 0.5f;
  }
  normalize_rows(m);
  return m;
}

Rows gather_map(const Prompt& p, std::mt19937& rng) {
  Rows m = 0.25f * background(p, 0.3, rng);
  for (const auto& [start, end] : p.segments) {
    for (int64_t j = start; j <= end; ++j) m(end, j) += j == end - 1 ? 1.2f : 0.3f;
  }
  normalize_rows(m);
  return m;
}

Rows aggregate_map(const Prompt& p, std::mt19937& rng) {
  Rows m = 0.2f * background(p, 0.1, rng);
  for (size_t s = 0; s < p.segments.size(); ++s) {
    m(m.rows() - 1, p.segments[s].second) += static_cast<int64_t>(s) == p.target ? 1.5f : 0.05f;
  }
  normalize_rows(m);
  return m;
}

double uniform(std::mt19937& rng, double low, double high) {
  return std::uniform_real_distribution<double>(low, high)(rng);
}

/// A head without a role: small drops of either sign, smooth maps.
HeadScore idle_head(HeadId head, const std::string& kind, double base, std::mt19937& rng) {
  HeadScore s;
  s.head = head;
  s.kind = kind;
  const double drop = std::round(uniform(rng, -6, 14)) / 512;
  s.accuracy = base - drop;
  s.accuracy_drop = Estimate{drop, drop - 0.013, drop + 0.012};
  s.logprob_drop = drop * uniform(rng, 1, 3);
  s.near_ties = static_cast<int64_t>(uniform(rng, 0, 6));
  s.map.entropy_norm = uniform(rng, kind == "attention" ? 0.25 : 0.6, 0.95);
  s.map.entropy = *s.map.entropy_norm * std::log(35.0);
  s.map.row_mass = kind == "attention" ? 1 : uniform(rng, 0.4, 3);
  s.map.gather = uniform(rng, 0.1, 0.3);
  s.map.gather_uniform = 0.27;
  s.map.aggregate = uniform(rng, 0.1, 0.3);
  s.map.aggregate_uniform = 8.0 / 35;
  s.map.target = uniform(rng, 0.02, 0.2);
  s.map.target_uniform = 0.05;
  return s;
}

void give_role(HeadScore& s, HeadRole role, double drop, double base) {
  s.role = role;
  s.accuracy = base - drop;
  s.accuracy_drop = Estimate{drop, drop - 0.041, drop + 0.043};
  s.logprob_drop = 4.2 * drop;
  s.near_ties = 9;
  s.drop_at_query = role == HeadRole::Aggregate ? 0.94 * drop : 0.01 * drop;
  s.drop_elsewhere = role == HeadRole::Aggregate ? 0.02 * drop : 0.99 * drop;
  s.drop_in_segments = role == HeadRole::Aggregate ? 0 : 0.95 * drop;
  s.drop_reading_segments = role == HeadRole::Aggregate ? 0.9 * drop : 0;
  s.map.entropy_norm = s.kind == "attention" ? 0.21 : 0.58;
  s.map.entropy = *s.map.entropy_norm * std::log(35.0);
  (role == HeadRole::Gather ? s.map.gather : s.map.aggregate) = 0.83;
  s.map.target = role == HeadRole::Aggregate ? 0.71 : 0.14;
}

ModelSummary summary(const std::string& name, const std::string& family, const std::string& kind,
                     int64_t layers, int64_t heads) {
  ModelSummary m;
  m.name = name;
  m.family = family;
  m.architecture = "SampleForCausalLM";
  m.fingerprint = "9f1c03aa57d2e841";
  m.layers = layers;
  m.d_model = 128;
  m.vocab_size = 4096;
  m.parameters = 1843200;
  m.layer_kinds.assign(static_cast<size_t>(layers), kind);
  m.head_counts.assign(static_cast<size_t>(layers), heads);
  return m;
}

void name_circuit(FindResult& r) {
  std::vector<HeadScore> found;
  std::copy_if(r.heads.begin(), r.heads.end(), std::back_inserter(found),
               [](const HeadScore& s) { return s.role != HeadRole::None; });
  std::stable_sort(found.begin(), found.end(), [](const HeadScore& a, const HeadScore& b) {
    return a.accuracy_drop->value > b.accuracy_drop->value;
  });
  for (const HeadScore& s : found) {
    (s.role == HeadRole::Gather ? r.gather : r.aggregate).push_back(s.head);
  }
}

/// Maps of the `count` heads with the largest drops. `wave` > 0 makes them signed and smooth.
void sample_maps(FindResult& r, const Prompt& p, size_t count, double wave, std::mt19937& rng) {
  std::vector<HeadScore> order = r.heads;
  std::stable_sort(order.begin(), order.end(), [](const HeadScore& a, const HeadScore& b) {
    return a.accuracy_drop->value > b.accuracy_drop->value;
  });
  order.resize(std::min(count, order.size()));
  for (const HeadScore& s : order) {
    MapSample sample{s.head, s.role, 0, p.tokens, p.segments, p.target, {}};
    sample.map = s.role == HeadRole::Gather      ? gather_map(p, rng)
                 : s.role == HeadRole::Aggregate ? aggregate_map(p, rng)
                                                 : background(p, 0.15, rng);
    if (wave > 0) {
      const Rows smooth = background(p, 0.05, rng);
      for (Eigen::Index i = 0; i < sample.map.rows(); ++i) {
        for (Eigen::Index j = 0; j <= i; ++j) {
          const double phase = wave * static_cast<double>(i - j);
          sample.map(i, j) =
              0.4f * sample.map(i, j) + smooth(i, j) * static_cast<float>(std::cos(phase));
        }
      }
    }
    r.maps.push_back(std::move(sample));
  }
}

SampleReport with_context(FindResult result, const std::string& name, int64_t pairs) {
  SampleReport report;
  result.mode = "zero";
  result.placement = "post_norm";
  report.result = std::move(result);
  const std::string spec = "kv:pairs=" + std::to_string(pairs) + ",n=512";
  report.task = {spec, "kv", 512, 17, {{"n", "512"}, {"pairs", std::to_string(pairs)}}};
  Manifest& m = report.manifest;
  m.headlens_version = "0.1.0";
  m.git_revision = "86e3bd9";
  m.torch_version = "2.11.0";
  m.command = "headlens find " + name + " --task " + spec + " --seed 17 --out report";
  m.checkpoint = "9f1c03aa57d2e841";
  m.device = "cpu";
  m.dtype = "float32";
  m.seed = 17;
  m.started = "2026-11-23T06:20:11Z";
  m.seconds = 21.75;
  m.options = {{"groups", "16"}, {"min_drop", "0.05"}};
  return report;
}

}  // namespace

SampleReport sample_transformer(int64_t layers, int64_t heads, int64_t pairs) {
  std::mt19937 rng(7);
  FindResult r;
  r.model = summary("zoo:sample-llama", "llama", "attention", layers, heads);
  r.base = {{0.986, 0.972, 0.993}, -0.071, 4, 512};
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (int64_t head = 0; head < heads; ++head) {
      HeadScore s = idle_head({layer, head, head}, "attention", r.base.accuracy.value, rng);
      if (layer == layers / 2 - 1 && head == 2)
        give_role(s, HeadRole::Gather, 0.861, r.base.accuracy.value);
      if (layer == layers / 2 && head == 5)
        give_role(s, HeadRole::Aggregate, 0.742, r.base.accuracy.value);
      if (layer == layers / 2 + 1 && head == 1)
        give_role(s, HeadRole::Aggregate, 0.119, r.base.accuracy.value);
      r.heads.push_back(std::move(s));
    }
  }
  name_circuit(r);
  sample_maps(r, kv_prompt(pairs), 8, 0, rng);
  return with_context(std::move(r), "zoo:sample-llama", pairs);
}

SampleReport sample_hybrid() {
  const std::vector<std::string> kinds = {"mamba2", "mlp",       "mamba2",    "mamba2",
                                          "mlp",    "attention", "attention", "attention",
                                          "mlp",    "mamba2",    "mamba2",    "mlp"};
  SampleReport report = sample_transformer(12, 16, 8);
  report.result.model.layer_kinds = kinds;
  std::vector<HeadScore>& heads = report.result.heads;
  for (HeadScore& s : heads) {
    s.kind = kinds[static_cast<size_t>(s.head.layer)];
    if (s.kind == "mamba2") s.map.entropy_norm = 0.6 + 0.4 * *s.map.entropy_norm;
  }
  for (HeadScore& s : heads) {  // a Gather head that no Aggregate head comes after
    if (s.head.layer == 10 && s.head.first == 3) {
      give_role(s, HeadRole::Gather, 0.093, report.result.base.accuracy.value);
      report.result.gather.push_back(s.head);
    }
  }
  std::erase_if(heads, [](const HeadScore& s) { return s.kind == "mlp"; });
  std::erase_if(report.result.maps, [&](const MapSample& m) {
    return kinds[static_cast<size_t>(m.head.layer)] == "mlp";
  });
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] == "mlp") report.result.model.head_counts[i] = 0;
  }
  return report;
}

SampleReport sample_mamba1() {
  constexpr int64_t kLayers = 4, kGroups = 16, kGroupSize = 16;
  std::mt19937 rng(11);
  FindResult r;
  r.model =
      summary("zoo:sample-falcon-mamba", "falcon_mamba", "mamba1", kLayers, kGroups * kGroupSize);
  r.base = {{0.891, 0.861, 0.915}, -0.384, 11, 512};
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    for (int64_t group = 0; group < kGroups; ++group) {
      const int64_t first = group * kGroupSize, last = first + kGroupSize - 1;
      const bool refined = (layer == 1 && group == 3) || (layer == 2 && group == 9);
      for (int64_t c = first; c <= last; c = refined ? c + 1 : last + 1) {
        HeadScore s =
            idle_head({layer, c, refined ? c : last}, "mamba1", r.base.accuracy.value, rng);
        if (layer == 1 && (c == 50 || c == 57))
          give_role(s, HeadRole::Gather, c == 50 ? 0.21 : 0.27, r.base.accuracy.value);
        if (layer == 2 && (c == 147 || c == 153))
          give_role(s, HeadRole::Aggregate, 0.34, r.base.accuracy.value);
        r.heads.push_back(std::move(s));
      }
    }
  }
  name_circuit(r);
  sample_maps(r, kv_prompt(6), 6, 0.21, rng);
  return with_context(std::move(r), "zoo:sample-falcon-mamba", 6);
}

}  // namespace headlens::testing
