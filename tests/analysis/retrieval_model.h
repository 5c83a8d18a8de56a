// headlens/tests: models written by hand in which it is known what each head does.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "headlens/model/fresh_weights.h"
#include "headlens/model/language_model.h"
#include "headlens/tasks/types.h"

namespace headlens::testing {

/// Two attention layers that look up a key, the textbook induction circuit. In a prompt
/// "start k1 v1 k2 v2 .. k" head (0, 1) writes, at each position, which token came before it, and
/// head (1, 0) finds at the end the position whose token before it is k, and copies its token to
/// the answer. The other heads see the prompt but write nothing. Where nothing is copied the model
/// prefers values with larger ids, never two alike.
class RetrievalModel {
 public:
  static constexpr int64_t kKeys = 6, kStart = 2 * kKeys, kTokens = 2 * kKeys + 1;
  static int64_t value(int64_t v) { return kKeys + v; }

  static LanguageModel make() {
    ModelConfig config;
    config.family = "llama";
    config.vocab_size = kTokens;
    config.d_model = kAnswer + kTokens;
    AttentionSpec attention;
    attention.heads = attention.kv_heads = kHeads;
    attention.d_head = kDHead;
    attention.scale = kSharp;
    config.layers = {{attention, {}}, {attention, {}}};
    std::get<AttentionSpec>(*config.layers[0].mixer).rope = RopeSpec{100, 4, {}};
    InitOptions wide;
    wide.std = 0.3;  // the idle heads look about
    auto weights = fresh_weights(config, 3, wide);
    write_embeddings(weights);
    write_previous_token_head(weights, "model.layers.0.self_attn.");
    write_copying_head(weights, "model.layers.1.self_attn.");
    return LanguageModel::build(config,
                                WeightScope::from_map(std::move(weights), at::kDouble, at::kCPU));
  }

 private:
  // The residual: token, constant, token before, answer.
  static constexpr int64_t kConst = kTokens, kBefore = kTokens + 1, kAnswer = 2 * kTokens + 1;
  static constexpr int64_t kHeads = 4, kDHead = 16;
  static constexpr double kSharp = 200;
  using Weights = std::map<std::string, Tensor>;

  static Tensor rows_of(Tensor weight, int64_t head) {
    return weight.slice(0, head * kDHead, (head + 1) * kDHead);
  }
  static Tensor identity() { return at::eye(kTokens); }

  static void write_embeddings(Weights& weights) {
    Tensor embed = weights.at("model.embed_tokens.weight").zero_();
    embed.slice(1, 0, kTokens).copy_(identity());
    embed.select(1, kConst).fill_(1);
    Tensor lm_head = weights.at("lm_head.weight").zero_();
    lm_head.slice(1, kAnswer).copy_(20 * identity());
    lm_head.select(1, kConst).copy_(0.1 * at::arange(kTokens));
  }

  /// Query and key are constants that rotary positions turn: their product is largest one apart.
  static void write_previous_token_head(Weights& weights, const std::string& at) {
    Tensor q = rows_of(weights.at(at + "q_proj.weight"), 1).zero_().select(1, kConst);
    Tensor k = rows_of(weights.at(at + "k_proj.weight"), 1).zero_().select(1, kConst);
    const double frequencies[2] = {1, 0.1};  // theta 100 over 4 dimensions
    for (int64_t pair = 0; pair < 2; ++pair) {
      q[pair] = 1;
      k[pair] = std::cos(frequencies[pair]);
      k[pair + 2] = std::sin(frequencies[pair]);
    }
    copy_token(weights, at, 1, kBefore);
  }

  static void write_copying_head(Weights& weights, const std::string& at) {
    Tensor q = rows_of(weights.at(at + "q_proj.weight"), 0).zero_();
    Tensor k = rows_of(weights.at(at + "k_proj.weight"), 0).zero_();
    q.slice(0, 0, kTokens).slice(1, 0, kTokens).copy_(identity());
    k.slice(0, 0, kTokens).slice(1, kBefore, kBefore + kTokens).copy_(identity());
    copy_token(weights, at, 0, kAnswer);
  }

  /// The only head that writes: the token it attends to, to `where` in the residual.
  static void copy_token(Weights& weights, const std::string& at, int64_t head, int64_t where) {
    Tensor v = rows_of(weights.at(at + "v_proj.weight"), head).zero_();
    v.slice(0, 0, kTokens).slice(1, 0, kTokens).copy_(identity());
    Tensor o = weights.at(at + "o_proj.weight").zero_();
    o.slice(0, where, where + kTokens)
        .slice(1, head * kDHead, head * kDHead + kTokens)
        .copy_(identity());
  }
};

/// Four pairs a prompt, each of them asked for equally often; choices in the order of the pairs.
/// The answer is the choice that the model would take anyway in one of four examples.
inline std::vector<TokenizedExample> retrieval_examples() {
  using Model = RetrievalModel;
  std::vector<TokenizedExample> examples;
  for (int64_t i = 0; i < 24; ++i) {
    TokenizedExample example;
    example.prompt_ids = {Model::kStart};
    for (int64_t pair = 0; pair < 4; ++pair) {
      const int64_t key = (i + pair * 5) % Model::kKeys;
      const int64_t value = Model::value((i / 4 + pair) % Model::kKeys);
      const int64_t start = std::ssize(example.prompt_ids);
      example.prompt_ids.insert(example.prompt_ids.end(), {key, value});
      example.segments.push_back({start, start + 1});
      example.choice_ids.push_back({value});
      if (pair == i % 4) example.answer = pair;
    }
    const auto asked = static_cast<size_t>(example.segments[static_cast<size_t>(i % 4)].start);
    example.prompt_ids.push_back(example.prompt_ids[asked]);
    for (const int64_t id : example.prompt_ids) example.tokens.push_back(std::to_string(id));
    examples.push_back(std::move(example));
  }
  return examples;
}

/// One Mamba-1 layer of 16 channels without memory: a channel passes on a feature of the token.
/// Channels 1 and 6 both tell token 0, each loudly enough alone; channel 11 alone tells token 1.
/// Nothing else writes; what no channel tells is taken for token 2.
inline LanguageModel channel_model() {
  ModelConfig config;
  config.family = "mamba";
  config.vocab_size = 3;
  config.d_model = 7;  // token [3], constant, told [3]
  Mamba1Spec spec;
  spec.d_inner = 16;
  spec.d_state = 2;
  spec.d_conv = 2;
  spec.dt_rank = 1;
  config.layers = {{spec, {}}};
  auto weights = fresh_weights(config, 5);
  const std::string at = "backbone.layers.0.mixer.";
  for (const char* name : {"in_proj.weight", "x_proj.weight", "out_proj.weight", "conv1d.weight"}) {
    weights.at(at + name).zero_();  // x_proj 0: B and C are 0, the scan is its D skip
  }
  weights.at(at + "conv1d.weight").select(2, 1).fill_(1);                // the token itself
  weights.at(at + "in_proj.weight").slice(0, 16).select(1, 3).fill_(4);  // gates are open
  const std::pair<int64_t, int64_t> tells[] = {{1, 0}, {6, 0}, {11, 1}};
  for (const auto& [channel, token] : tells) {
    weights.at(at + "in_proj.weight")[channel][token] = 4;
    weights.at(at + "out_proj.weight")[4 + token][channel] = 1;
  }
  Tensor embed = weights.at("backbone.embeddings.weight").zero_();
  embed.slice(1, 0, 3).copy_(at::eye(3));
  embed.select(1, 3).fill_(1);
  Tensor lm_head = weights.at("lm_head.weight").zero_();
  lm_head.slice(1, 4).copy_(10 * at::eye(3));
  lm_head[2][3] = 1;
  return LanguageModel::build(config,
                              WeightScope::from_map(std::move(weights), at::kDouble, at::kCPU));
}

/// What was the last token?
inline std::vector<TokenizedExample> last_token_examples() {
  std::vector<TokenizedExample> examples;
  for (int64_t i = 0; i < 60; ++i) {
    TokenizedExample example;
    example.prompt_ids = {(i / 3) % 3, (i / 9) % 3, i % 3};
    example.choice_ids = {{0}, {1}, {2}};
    example.answer = i % 3;
    examples.push_back(std::move(example));
  }
  return examples;
}

}  // namespace headlens::testing
