// headlens/tests: calling the command in this process, and models for it to work on.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "support/temp_dir.h"

namespace headlens::testing {

using Json = nlohmann::json;

inline const std::filesystem::path kGoldens = HEADLENS_GOLDEN_DIR;

/// What a call of the command left behind.
struct Called {
  int status = 0;
  std::string out;
  std::string err;
  Json json() const { return Json::parse(out); }
};

/// `headlens WORDS...` on the CPU.
inline Called headlens(const std::vector<std::string>& words) {
  std::vector<const char*> argv = {"headlens"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const int status = cli::run(static_cast<int>(argv.size()), argv.data());
  std::string err = ::testing::internal::GetCapturedStderr();
  return {status, ::testing::internal::GetCapturedStdout(), std::move(err)};
}

inline std::string read_file(const std::filesystem::path& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// tokenizer.json of words "w0".."w90", each its own id.
inline std::string word_tokenizer() {
  Json vocab;
  for (int i = 0; i < 90; ++i) vocab["w" + std::to_string(i)] = i;
  vocab["<unk>"] = 90;
  const Json model = {{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", "<unk>"}};
  const Json document = {{"version", "1.0"},
                         {"truncation", nullptr},
                         {"padding", nullptr},
                         {"added_tokens", Json::array()},
                         {"normalizer", nullptr},
                         {"pre_tokenizer", {{"type", "WhitespaceSplit"}}},
                         {"post_processor", nullptr},
                         {"decoder", nullptr},
                         {"model", model}};
  return document.dump();
}

/// A copy of a golden model with a tokenizer of words, in `dir`/`family`.
inline std::filesystem::path model_with_words(const TempDir& dir, const std::string& family) {
  const std::filesystem::path to = dir.path() / family;
  std::filesystem::create_directories(to);
  for (const char* file : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(kGoldens / family / file, to / file,
                               std::filesystem::copy_options::overwrite_existing);
  }
  dir.write(family + "/tokenizer.json", word_tokenizer());
  return to;
}

/// Examples of unequal lengths with choices of one to three tokens; the same every time.
inline std::vector<Json> word_examples(int count) {
  unsigned draw = 7;
  const auto next = [&draw](unsigned below) {
    draw = draw * 1664525U + 1013904223U;
    return static_cast<int>((draw >> 8) % below);
  };
  const auto words = [&](int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += " w" + std::to_string(next(90));
    return text;
  };
  std::vector<Json> lines;
  for (int i = 0; i < count; ++i) {
    const int choices = 2 + next(3);
    Json line = {{"prompt", words(2 * choices + next(7)).substr(1)}, {"answer", next(choices)}};
    for (int c = 0; c < choices; ++c) {
      line["choices"].push_back(words(1 + next(3)));
      line["segments"].push_back({2 * c, 2 * c + 1});
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

inline std::filesystem::path word_task(const TempDir& dir, int count = 24) {
  std::string text;
  for (const Json& line : word_examples(count)) text += line.dump() + "\n";
  return dir.write("task.jsonl", text);
}

}  // namespace headlens::testing
