// headlens/model: decoding one token after another over preallocated caches.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/model/language_model.h"
#include "headlens/model/site.h"
#include "headlens/model/state.h"

namespace headlens {

class DecoderBody;  // src/model/decoder_body.h

/// How a decoder is set up.
struct DecoderOptions {
  int64_t max_length = 0;  ///< positions the caches have room for, the prompt's among them
  Tensor first = {};       ///< left padding of the prompt, as in ForwardOptions
  bool record = true;      ///< on CUDA, record a step once and replay it
};

/// Attention heads of one layer, numbered as everywhere.
struct LayerHeads {
  int64_t layer = 0;           ///< from 0
  std::vector<int64_t> heads;  ///< by the layer's numbers
};

/// A batch of texts that go on token by token. Keys, values, convolutions' inputs and SSM states
/// lie in buffers made once; layers of norm, attention and MLP run few fused kernels, all others
/// the model's own forward. On one CUDA device the second step is recorded and from then on
/// replayed, a launch a token. What it gives is what `LanguageModel::forward` gives with a state,
/// in another order of sums.
class Decoder {
 public:
  /// Runs the prompts, ids int64 [batch, pos]. ShapeError unless they fit into max_length.
  Decoder(const LanguageModel& model, const Tensor& ids, const DecoderOptions& options);
  /// Goes on from what forwards have left; the state is copied. `step` comes before `generate`.
  Decoder(const LanguageModel& model, const ModelState& state, const DecoderOptions& options);
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  /// One token for each row, int64 [batch] -> logits [batch, vocab], which the next step
  /// overwrites. ShapeError for ids that do not fit and once max_length positions are there. With a
  /// tap the model's own forward runs, with every site, and is not recorded.
  Tensor step(const Tensor& ids, Tap* tap = nullptr);

  /// The likeliest token, `count` times, each fed back: int64 [batch, count] on the model's device.
  /// Nothing waits for the device, unless there are `stops`: then it ends once every row has given
  /// one of them, and a row's last stop fills what comes after it.
  Tensor generate(int64_t count, const std::vector<int64_t>& stops = {});

  /// Logits of the last position, [batch, vocab].
  Tensor logits() const;

  /// From now on every step leaves the attention rows of these heads; an empty list ends that.
  /// HookError for a layer or a head that has none.
  void show_rows(const std::vector<LayerHeads>& wanted);
  /// P of the last step's position over the cache: at least float32 [batch, head, max_length] in
  /// the order asked for; 0 where no key is seen. HookError if that step left none.
  Tensor rows(int64_t layer) const;
  /// The SSM state that the last step left, as in LayerState::ssm. HookError for another layer.
  Tensor ssm_state(int64_t layer) const;

  /// A copy as forwards take it.
  ModelState state() const;
  int64_t position() const;    ///< tokens seen so far, padding included
  int64_t max_length() const;  ///< as in DecoderOptions
  /// Whether steps are replayed, and how many layers run fused.
  bool recorded() const;
  int64_t fused_layers() const;  ///< see above

 private:
  std::unique_ptr<DecoderBody> body_;
};

}  // namespace headlens
