// headlens/model: forwards of shapes that come again, recorded once and replayed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "headlens/core/dtype.h"
#include "headlens/model/language_model.h"

namespace headlens {

/// What is recorded.
struct GraphOptions {
  int64_t most_tokens =
      4096;                  ///< longer forwards keep a GPU busy by themselves and run as they are
  int64_t most_shapes = 16;  ///< recordings kept, each with the memory of its activations
};

/// LanguageModel::forward for short prompts on one CUDA device, where launching the layers one by
/// one takes longer than running them: the second forward of a shape is recorded, from then on one
/// launch replays it, with the same kernels and the same bytes. Elsewhere, and for longer prompts,
/// the forward itself. Not for two threads at once.
class GraphedForward {
 public:
  /// Of this model, which is shared.
  explicit GraphedForward(const LanguageModel& model, const GraphOptions& options = {});
  ~GraphedForward();
  GraphedForward(GraphedForward&&) noexcept;
  GraphedForward& operator=(GraphedForward&&) noexcept;

  /// ids [batch, pos] and logit_positions [batch, n] (undefined: all) int64 -> logits, as forward
  /// gives them, in a tensor of their own. ShapeError as there.
  Tensor operator()(const Tensor& ids, const Tensor& logit_positions = {});

  int64_t recorded() const;  ///< shapes that are replayed

 private:
  class Body;
  std::unique_ptr<Body> body_;
};

}  // namespace headlens
