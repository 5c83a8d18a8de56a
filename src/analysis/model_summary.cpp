// headlens/analysis: what a result says of the model it is about.
#include "analysis/model_summary.h"

#include "headlens/analysis/gather_aggregate.h"

namespace headlens {

ModelSummary model_summary(const LanguageModel& model) {
  const ModelConfig& config = model.config();
  ModelSummary s;
  s.family = config.family;
  s.architecture = config.architecture;
  s.fingerprint = model.fingerprint();
  s.layers = model.layer_count();
  s.d_model = config.d_model;
  s.vocab_size = config.vocab_size;
  s.parameters = model.parameter_count();
  for (const LayerSpec& layer : config.layers) {
    s.layer_kinds.push_back(layer_kind_name(layer));
    s.head_counts.push_back(head_count(layer));
  }
  return s;
}

FindResult describe_model(const LanguageModel& model) {
  FindResult result;
  result.model = model_summary(model);
  return result;
}

std::string head_kind_name(const ModelConfig& config, const HeadId& head) {
  const LayerSpec& layer = config.layers.at(static_cast<size_t>(head.layer));
  return layer_kind_name(bank_of(layer, head.first).kind);
}

}  // namespace headlens
