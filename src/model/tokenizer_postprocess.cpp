// headlens/model: the post-processors of tokenizer.json, which add special tokens.
#include "model/tokenizer_postprocess.h"

#include <utility>

#include "model/tokenizer_parts.h"

namespace headlens {
namespace {

constexpr size_t kMaxAdded = 1024;  // pieces of a template and ids they add

/// The id in ["</s>", 2].
int64_t read_named_id(const PartSpec& spec, std::string_view key) {
  const nlohmann::json* pair = spec.fields.find(key);
  const bool good = pair != nullptr && pair->is_array() && pair->size() == 2 &&
                    JsonType<uint32_t>::fits((*pair)[1]);
  HEADLENS_CHECK(ConfigError, good, "[{}] key '{}', expected [token, id], got {}", spec.where(),
                 key, pair == nullptr ? "nothing" : describe_json(*pair));
  return (*pair)[1].get<int64_t>();
}

}  // namespace

PostProcessor::PostProcessor(const nlohmann::json& spec, const std::string& where) {
  read(spec, where);
}

void PostProcessor::read(const nlohmann::json& json, const std::string& where) {
  if (json.is_null()) return;
  const PartSpec spec(json, where);
  if (spec.type == "Sequence") {
    spec.for_each("processors", [this](const nlohmann::json& item, const std::string& place) {
      read(item, place);
    });
    spec.fields.check_all_read();
    return;
  }
  if (spec.type == "ByteLevel") return;  // about offsets, which are not given out
  HEADLENS_CHECK(ConfigError, steps_.empty(),
                 "[{}] type, expected one post-processor that adds tokens, got also {}", where,
                 spec.type);
  if (spec.type == "TemplateProcessing") return read_template(json, where);
  if (spec.type != "BertProcessing" && spec.type != "RobertaProcessing") {
    spec.refuse("TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel, Sequence");
  }
  steps_ = {
      {false, {read_named_id(spec, "cls")}}, {true, {}}, {false, {read_named_id(spec, "sep")}}};
  spec.fields.ignore({"trim_offsets", "add_prefix_space"});
  spec.fields.check_all_read();
}

void PostProcessor::read_template(const nlohmann::json& json, const std::string& where) {
  const PartSpec spec(json, where);
  spec.fields.ignore({"pair"});
  const nlohmann::json* tokens = spec.fields.find("special_tokens");
  const JsonFields special(tokens == nullptr ? nlohmann::json::object() : *tokens, spec.where());
  spec.for_each("single", [&](const nlohmann::json& item, const std::string& place) {
    const JsonFields piece(item, place);
    if (piece.has("Sequence")) {
      const auto id = piece.object("Sequence").required<std::string>("id");
      HEADLENS_CHECK(ConfigError, id == "A", "[{}] sequence, expected A, got {}", place, id);
      steps_.push_back({true, {}});
    } else {
      const auto id = piece.object("SpecialToken").required<std::string>("id");
      check_size(place);  // a long list of ids may be named often
      steps_.push_back({false, special.object(id).required<std::vector<int64_t>>("ids")});
    }
  });
  spec.fields.check_all_read();
  check_size(spec.where());
}

void PostProcessor::check_size(const std::string& where) const {
  size_t added = steps_.size();
  for (const Step& step : steps_) added += step.ids.size();
  HEADLENS_CHECK(ConfigError, added <= kMaxAdded,
                 "[{}] template, expected at most {} pieces and ids, got {}", where, kMaxAdded,
                 added);
}

std::vector<int64_t> PostProcessor::apply(std::vector<int64_t> ids, bool add_special_tokens) const {
  if (steps_.empty()) return ids;
  std::vector<int64_t> out;
  out.reserve(ids.size() + steps_.size());
  for (const Step& step : steps_) {
    if (!step.is_text && !add_special_tokens) continue;
    const std::vector<int64_t>& source = step.is_text ? ids : step.ids;
    out.insert(out.end(), source.begin(), source.end());
  }
  return out;
}

}  // namespace headlens
