// headlens/model: what a decoder holds, and the step that it repeats.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "headlens/kernels/decode.h"
#include "headlens/kernels/device_graph.h"
#include "headlens/model/decoder.h"
#include "model/step_layer.h"
#include "model/step_rows.h"

namespace headlens {

/// Decoder's, whose functions say what these do.
class DecoderBody {
 public:
  DecoderBody(const LanguageModel& model, const ModelState& state, const DecoderOptions& options);

  void run_prompt_logits(const Tensor& logits);
  Tensor step(const Tensor& ids, Tap* tap);
  Tensor generate(int64_t count, const std::vector<int64_t>& stops);
  void show_rows(const std::vector<LayerHeads>& wanted);
  ModelState state() const;

  const LanguageModel model_;
  const int64_t max_length_;
  int64_t position_;                  // on the host, what is_at_ is on the device
  ModelState caches_;                 // whose tensors keep their addresses
  std::map<int64_t, StepRows> rows_;  // by layer
  bool rows_fresh_ = false;
  bool has_logits_ = false;
  Tensor logits_;  // [batch, vocab]
  std::unique_ptr<DeviceGraph> graph_;
  std::vector<std::unique_ptr<StepLayer>> layers_;  // null: the model's own forward

 private:
  void make_layers();
  void link_layers();
  const DecodeTurn& table_of(const RopeSpec& spec);
  std::vector<int64_t> lengths(int64_t position) const;
  void check_ids(const Tensor& ids) const;
  void check_room(int64_t count) const;
  void check_growth() const;
  void advance();
  void run_step();
  Tensor embed() const;
  Tensor run_layer(int64_t layer, const Tensor& resid, ModelState& now, const Tensor& embedding,
                   const std::shared_ptr<RotaryTables>& tables);
  void unembed(const Tensor& resid);
  void step_seen_by(Tap* tap);
  bool all_stopped(std::vector<bool>& stopped, const std::vector<int64_t>& stops) const;

  int64_t batch_ = 0;
  std::vector<int64_t> first_;  // of each row, on the host; empty: no padding
  Tensor ids_;                  // int64 [batch]: what the next step reads
  Tensor chosen_;               // int64 [batch, max_length + 1]: the token at each position
  Tensor is_at_;                // int64 [1]
  Tensor ticket_;
  Tensor resid_;       // [batch, d_model]
  DecodeLinear head_;  // without weights: the model's own unembed
  std::vector<std::pair<RopeSpec, DecodeTurn>> tables_;
  bool may_record_;
  bool warm_ = false;
};

}  // namespace headlens
