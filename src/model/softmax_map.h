// headlens/model: the map of softmax attention in a forward, which wants z as well.
#pragma once

#include <functional>
#include <memory>

#include "headlens/model/head_map.h"

namespace headlens {

struct SoftmaxForward {
  std::unique_ptr<HeadMap> map;
  std::function<Tensor()> z;  // of the unedited map, [batch, query, head, d_head]
};

/// make_softmax_map() for a layer whose z is wanted too. Where figures of the map are asked for and
/// one pass gives both (attention_with_stats), z comes from that pass; `alone` rules that out.
SoftmaxForward make_softmax_forward(Tensor q, Tensor k, Tensor v, AttentionRule rule, bool alone);

}  // namespace headlens
