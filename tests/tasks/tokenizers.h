// headlens/tests: small tokenizers for the task tests.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "headlens/model/tokenizer.h"
#include "headlens/tasks/world.h"
#include "support/temp_dir.h"

namespace headlens::testing {

/// One token a word: the made-up world's own.
inline Tokenizer word_tokenizer() {
  const TempDir dir;
  write_world_tokenizer(dir.path());
  return Tokenizer::load(dir.path());
}

/// GPT-2's letter for a byte: printable ones stand for themselves, the rest follow from U+0100.
inline std::string byte_letter(int byte) {
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

/// A byte-level BPE with the given merges. `split_words`: GPT-2's splitting first; without it
/// merges may cross from a value into the newline after it. `bos`: a post-processor that puts "<s>"
/// in front.
inline Tokenizer bpe_tokenizer(const std::vector<std::pair<std::string, std::string>>& merges,
                               bool split_words, bool bos = false) {
  using nlohmann::json;
  json vocab = json::object(), merge_list = json::array();
  for (int byte = 0; byte < 256; ++byte) vocab[byte_letter(byte)] = byte;
  for (const auto& [left, right] : merges) {
    vocab[left + right] = vocab.size();
    merge_list.push_back(left + " " + right);
  }
  const size_t bos_id = vocab.size();
  json added = json::array();
  json post = nullptr;
  if (bos) {
    added.push_back({{"id", bos_id},
                     {"content", "<s>"},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
    const json front = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
    const auto sequence = [](const char* id) {
      return json{{"Sequence", {{"id", id}, {"type_id", 0}}}};
    };
    post = {{"type", "TemplateProcessing"},
            {"single", {front, sequence("A")}},
            {"pair", {front, sequence("A"), sequence("B")}},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {bos_id}}, {"tokens", {"<s>"}}}}}}};
  }
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", split_words}};
  const json file = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level},
                     {"post_processor", post},
                     {"decoder", byte_level},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"ignore_merges", false},
                       {"vocab", vocab},
                       {"merges", merge_list}}}};
  const TempDir dir;
  return Tokenizer::load(dir.write("tokenizer.json", file.dump()));
}

}  // namespace headlens::testing
