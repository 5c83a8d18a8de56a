// headlens/analysis: the gradient of a run's difference, layer by layer from the last one back.
#include "analysis/patch_gradients.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <set>

namespace headlens {
namespace {

/// Keeps tensors of the graph. What it returns is another tensor than it was given, so that a map
/// goes on from the dense one that was shown.
class GraphSites final : public Tap {
 public:
  explicit GraphSites(const std::vector<TapPoint>& points)
      : points_(points.begin(), points.end()) {}
  bool wants(TapPoint point) const override { return points_.contains(point); }
  Tensor visit(TapPoint point, Tensor value) override { return seen[point] = value.view_as(value); }

  std::map<TapPoint, Tensor> seen;

 private:
  std::set<TapPoint> points_;
};

}  // namespace

PatchGradients::PatchGradients(const LanguageModel& model, const PairedRun& objective,
                               int64_t batch, const Tensor& leaving)
    : model_(model) {
  const Tensor index = objective.batch(batch)
                           .logit_positions.to(leaving.device())
                           .unsqueeze(-1)
                           .expand({-1, -1, leaving.size(-1)});
  const Tensor judged = leaving.gather(1, index).detach().set_requires_grad(true);
  const c10::AutoGradMode with_grad(true);
  const Tensor difference = objective.difference(batch, model.unembed(judged)).sum();
  const Tensor found = torch::autograd::grad({difference}, {judged}).front();
  gradient_ = at::zeros_like(leaving).scatter_add(1, index, found);  // positions may come twice
}

std::map<TapPoint, Tensor> PatchGradients::back_through(int64_t layer, const Tensor& entering,
                                                        const Prompt& prompt,
                                                        const std::vector<TapPoint>& points) {
  std::vector<Tensor> inputs = {entering.detach().set_requires_grad(true)};
  GraphSites tap(points);
  Tensor out;
  {
    const c10::AutoGradMode with_grad(true);
    out = model_.run_layers(inputs[0], layer, layer + 1, &tap, nullptr, prompt);
  }
  for (const auto& [point, value] : tap.seen) inputs.push_back(value);
  const auto found =
      torch::autograd::grad({out}, inputs, {gradient_.to(out.options())}, /*retain_graph=*/false,
                            /*create_graph=*/false, /*allow_unused=*/true);
  gradient_ = found[0];
  std::map<TapPoint, Tensor> gradients;
  size_t i = 1;
  for (const auto& [point, value] : tap.seen) {
    if (found[i].defined()) gradients[point] = found[i];
    ++i;
  }
  return gradients;
}

}  // namespace headlens
