// headlens/model: what an objective without a gradient answers to attribution.
#include "headlens/model/objective.h"

#include "headlens/core/error.h"

namespace headlens {

Tensor Objective::answer_log_odds(int64_t /*batch*/, const Tensor& /*logits*/) const {
  throw TaskError("[attribute] the objective, expected one that has answer_log_odds, got none");
}

}  // namespace headlens
