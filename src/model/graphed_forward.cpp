// headlens/model: forwards of shapes that come again, recorded once and replayed.
#include "headlens/model/graphed_forward.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <list>

#include "core/check.h"
#include "headlens/kernels/device_graph.h"

namespace headlens {
namespace {

/// A shape that was seen, and its recording from the second time on.
struct Shape {
  std::vector<int64_t> ids, positions;
  Tensor ids_there, positions_there, logits;  // what the recording reads and writes
  std::unique_ptr<DeviceGraph> graph;
};

std::vector<int64_t> sizes_of(const Tensor& x) {
  return x.defined() ? x.sizes().vec() : std::vector<int64_t>{};
}

}  // namespace

class GraphedForward::Body {
 public:
  Body(const LanguageModel& model, const GraphOptions& options)
      : model_(model), options_(options) {}

  Tensor run(const Tensor& ids, const Tensor& positions) {
    if (!worth_it(ids)) return model_.forward(ids, {.logit_positions = positions});
    Shape* shape = find(ids, positions);
    if (shape == nullptr) {  // the first forward also sets the libraries up and checks its inputs
      add(ids, positions);
      return model_.forward(ids, {.logit_positions = positions});
    }
    check_forward_inputs(model_.config(), ids, positions);
    if (!shape->graph && !record(*shape, ids, positions)) {
      return model_.forward(ids, {.logit_positions = positions});
    }
    shape->ids_there.copy_(ids, /*non_blocking=*/true);
    if (positions.defined()) shape->positions_there.copy_(positions, /*non_blocking=*/true);
    shape->graph->replay();
    return shape->logits.clone();
  }

  int64_t recorded() const {
    return std::count_if(shapes_.begin(), shapes_.end(),
                         [](const Shape& shape) { return shape.graph != nullptr; });
  }

 private:
  bool worth_it(const Tensor& ids) const {
    return DeviceGraph::can_record(model_.device()) && model_.devices().size() == 1 &&
           recordable_ && !c10::GradMode::is_enabled() && ids.defined() && ids.dim() == 2 &&
           ids.numel() <= options_.most_tokens;
  }

  Shape* find(const Tensor& ids, const Tensor& positions) {
    for (auto it = shapes_.begin(); it != shapes_.end(); ++it) {
      if (it->ids != sizes_of(ids) || it->positions != sizes_of(positions)) continue;
      shapes_.splice(shapes_.begin(), shapes_, it);  // the least used is the last
      return &shapes_.front();
    }
    return nullptr;
  }

  void add(const Tensor& ids, const Tensor& positions) {
    shapes_.emplace_front();
    shapes_.front().ids = sizes_of(ids);
    shapes_.front().positions = sizes_of(positions);
    if (std::ssize(shapes_) > options_.most_shapes) shapes_.pop_back();
  }

  /// False for a model whose forward makes the host wait (ropes that depend on the length).
  bool record(Shape& shape, const Tensor& ids, const Tensor& positions) {
    const auto there = at::TensorOptions(model_.device()).dtype(at::kLong);
    shape.ids_there = at::zeros(ids.sizes(), there);
    if (positions.defined()) shape.positions_there = at::zeros(positions.sizes(), there);
    try {
      shape.graph = DeviceGraph::record(model_.device(), [&] {
        shape.logits = model_.forward(
            shape.ids_there, {.logit_positions = shape.positions_there, .inputs_checked = true});
      });
    } catch (const DeviceError&) {
      recordable_ = false;
    }
    return recordable_;
  }

  LanguageModel model_;
  GraphOptions options_;
  std::list<Shape> shapes_;
  bool recordable_ = true;
};

GraphedForward::GraphedForward(const LanguageModel& model, const GraphOptions& options)
    : body_(std::make_unique<Body>(model, options)) {}
GraphedForward::~GraphedForward() = default;
GraphedForward::GraphedForward(GraphedForward&&) noexcept = default;
GraphedForward& GraphedForward::operator=(GraphedForward&&) noexcept = default;

Tensor GraphedForward::operator()(const Tensor& ids, const Tensor& logit_positions) {
  return body_->run(ids, logit_positions);
}

int64_t GraphedForward::recorded() const {
  return body_->recorded();
}

}  // namespace headlens
