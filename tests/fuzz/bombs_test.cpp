// headlens/tests: small files that ask for much memory or time, read by a child that may take
// little.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/pickled_tensors.h"
#include "fuzz_tools.h"
#include "headlens/analysis/journal.h"
#include "headlens/core/safetensors.h"
#include "headlens/core/torch_file.h"
#include "headlens/model/families.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/jsonl.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr size_t kSmall = 1024;                 // bytes of a bomb, at most
constexpr rlim_t kAllowed = 128 * 1024 * 1024;  // that a reader may take for it
constexpr rlim_t kSeconds = 20;

/// Bytes of private memory this process has.
rlim_t data_bytes() {
  std::ifstream statm("/proc/self/statm");
  rlim_t pages[6] = {};
  for (rlim_t& number : pages) statm >> number;
  return pages[5] * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

enum Outcome { Read, Refused, OtherError, Killed };

/// What becomes of a reader that may take little: in a child, since limits hold for a process.
Outcome outcome_of(const std::function<void()>& reader) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlim_t most = data_bytes() + kAllowed;
    const rlimit memory{most, most}, time{kSeconds, kSeconds};
    if (::setrlimit(RLIMIT_DATA, &memory) != 0 || ::setrlimit(RLIMIT_CPU, &time) != 0) ::_exit(9);
    try {
      reader();
    } catch (const Error&) {
      ::_exit(Refused);
    } catch (...) {
      ::_exit(OtherError);
    }
    ::_exit(Read);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? static_cast<Outcome>(WEXITSTATUS(status)) : Killed;
}

void expect_refused(const std::string& bytes, const std::function<void()>& reader) {
  EXPECT_LE(bytes.size(), kSmall);
  EXPECT_EQ(outcome_of(reader), Refused) << bytes.substr(0, 200);
}

const fuzz::Scratch& scratch() {
  static const fuzz::Scratch folder;
  return folder;
}

void expect_refused_file(const char* name, const std::string& bytes,
                         const std::function<void(const std::filesystem::path&)>& read) {
  const auto path = scratch().write(name, bytes);
  expect_refused(bytes, [&] { read(path); });
}

std::string number(uint64_t value, size_t size) {
  return {reinterpret_cast<const char*>(&value), size};
}

std::string nested(size_t depth, char open, char close) {
  return std::string(depth, open) + std::string(depth, close);
}

// The limits themselves must be able to fail a reader.
TEST(Bombs, TheChildIsStoppedAtItsLimits) {
  EXPECT_EQ(outcome_of([] { std::string(size_t{1} << 30, 'x'); }), OtherError);
  EXPECT_EQ(outcome_of([] { std::string(size_t{1} << 20, 'x'); }), Read);
  EXPECT_EQ(outcome_of([] { HEADLENS_FAIL(Error, "[x] y"); }), Refused);
}

std::string safetensors(const std::string& header) {
  return number(header.size(), 8) + header;
}

TEST(Bombs, Safetensors) {
  const auto entry = [](const std::string& shape) {
    return safetensors(R"({"a":{"dtype":"F64","shape":)" + shape + R"(,"data_offsets":[0,0]}})");
  };
  std::string many = "[0";
  for (int i = 0; i < 300; ++i) many += ",9";
  for (const std::string& bytes :
       {number(UINT64_MAX, 8) + "{}", number(100'000'000, 8) + "{}",
        entry("[4294967296,4294967296]"), entry("[9223372036854775807]"), entry(many + "]"),
        safetensors("{\"a\":" + nested(400, '[', ']') + "}")}) {
    expect_refused_file("bomb.safetensors", bytes, &SafetensorsFile::open);
  }
}

TEST(Bombs, Configs) {
  const json llama = {{"architectures", {"LlamaForCausalLM"}},
                      {"model_type", "llama"},
                      {"vocab_size", 2147483647},
                      {"hidden_size", 2147483647},
                      {"num_attention_heads", 1},
                      {"intermediate_size", 2147483647},
                      {"num_hidden_layers", 1000000000}};
  std::vector<std::string> texts = {llama.dump(), nested(500, '[', ']')};
  for (const char* architecture : {"MambaForCausalLM", "JambaForCausalLM", "Zamba2ForCausalLM",
                                   "BambaForCausalLM", "GPT2LMHeadModel", "Mamba2ForCausalLM"}) {
    json other = llama;
    other["architectures"] = {architecture};
    other.erase("model_type");
    other["n_layer"] = 1000000000;
    texts.push_back(other.dump());
  }
  for (const std::string& text : texts) expect_refused(text, [&] { parse_model_config(text); });
}

/// A tokenizer of one word with other parts.
std::string tokenizer(const json& parts) {
  json all = {{"model", {{"type", "WordLevel"}, {"vocab", {{"a", 0}}}, {"unk_token", "a"}}}};
  all.update(parts);
  return all.dump();
}

json row_of(const json& part, size_t count, const char* key) {
  return {{"type", "Sequence"}, {key, std::vector<json>(count, part)}};
}

void expect_refused_text(const json& parts) {
  expect_refused_file("tokenizer.json", tokenizer(parts), [](const auto& path) {
    const auto loaded = Tokenizer::load(path);
    loaded.decode(loaded.encode("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \xC3\xA9"));
  });
}

TEST(Bombs, TokenizersThatMultiplyATextOrItsTokens) {
  const json pattern = {{"String", "a"}};
  const json twice = {{"type", "Replace"}, {"pattern", pattern}, {"content", "aaaaaaaaaaaaaaaa"}};
  expect_refused_text({{"normalizer", row_of(twice, 10, "normalizers")}});
  expect_refused_text({{"normalizer", row_of({{"type", "ByteLevel"}}, 35, "normalizers")}});
  const json spell = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  expect_refused_text({{"pre_tokenizer", row_of(spell, 13, "pretokenizers")}});
  expect_refused_text({{"decoder", row_of(twice, 10, "decoders")}});
  json inner = twice;  // a sequence in a sequence has no limit of its own
  for (int i = 0; i < 8; ++i) inner = row_of(inner, 1, "normalizers");
  inner["normalizers"].push_back(row_of(twice, 6, "normalizers"));
  expect_refused_text({{"normalizer", inner}});
}

TEST(Bombs, RegularExpressionsThatGrowOrGoBackForEver) {
  for (const char* regex :
       {"(((a{1,999}){1,999}){1,999}){1,999}", "(a+)+(a+)+(a+)+[bc]", "(a|a|a|a)*[bc]",
        "(?=(a+))a*[bc]\\1(a*)*c|(aa?)*[bc]", "(*LIMIT_MATCH=4000000000)a"}) {
    expect_refused_text(
        {{"pre_tokenizer",
          {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}}}});
  }
}

TEST(Bombs, TokenizerModels) {
  expect_refused_file("tokenizer.model",
                      std::string("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", 10),
                      &Tokenizer::load);
  expect_refused_file("tokenizer.model", std::string(900, 'A') + " 0\n", &Tokenizer::load);
  json ids = std::vector<int>(100, 1);
  json named = {{"SpecialToken", {{"id", "s"}}}};
  expect_refused_text({{"post_processor",
                        {{"type", "TemplateProcessing"},
                         {"single", std::vector<json>(20, named)},
                         {"special_tokens", {{"s", {{"ids", ids}}}}}}}});
}

TEST(Bombs, Pickles) {
  const std::string protocol = "\x80\x02";
  for (const std::string& pickle :
       {protocol + "X" + number(UINT32_MAX, 4), protocol + "r" + number(UINT32_MAX, 4),
        protocol + std::string(900, '('), protocol + "]" + std::string(400, 'e'),
        protocol + "\x8a\xff", protocol + std::string(900, '}') + "."}) {
    expect_refused(pickle, [&] { read_pickled_tensors(pickle, "pickle"); });
  }
  const std::string end =
      "PK\5\6" + number(0, 4) + number(0xffffffff, 4) + number(UINT64_MAX, 8) + "\0\0";
  expect_refused_file("pytorch_model.bin", "PK" + end + std::string(2, '\0'), &TorchFile::open);
}

TEST(Bombs, ExamplesAndJournals) {
  expect_refused_file("task.jsonl", nested(500, '[', ']'), &load_jsonl);
  expect_refused_file("task.jsonl", std::string(1000, '{'), &load_jsonl);
  const std::string record = number(0, 4) + number(UINT32_MAX, 4) + number(UINT32_MAX, 4);
  expect_refused_file("journal", "headlens.journal/1\n" + record, [](const auto& path) {
    Journal::open(path, {{"model", "m"}}, {}, Journal::Existing::Resume);
  });
}

}  // namespace
}  // namespace headlens
