// headlens/model: the post-processors of tokenizer.json, which add special tokens.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace headlens {

/// What surrounds the ids of one text: groups of special ids, and the text itself between them.
class PostProcessor {
 public:
  /// Reads "post_processor". Throws ConfigError naming a type that is not handled.
  PostProcessor(const nlohmann::json& spec, const std::string& where);

  std::vector<int64_t> apply(std::vector<int64_t> ids, bool add_special_tokens) const;

 private:
  struct Step {
    bool is_text = false;
    std::vector<int64_t> ids;  // special ones
  };
  void read(const nlohmann::json& spec, const std::string& where);
  void read_template(const nlohmann::json& spec, const std::string& where);
  void check_size(const std::string& where) const;

  std::vector<Step> steps_;  // empty: the text alone
};

}  // namespace headlens
