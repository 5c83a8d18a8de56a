// headlens/tests: whatever is wrong, one line in the form of the contract, and the right status.
#include <gtest/gtest.h>

#include <cstdlib>
#include <regex>

#include "cli/command_tools.h"
#include "headlens/core/device.h"
#include "headlens/core/log.h"

namespace headlens {
namespace {

using testing::Called;
using testing::model_with_words;
using testing::TempDir;
using testing::word_task;

/// "[where] what, expected X, got Y", with no control characters and nothing of C++ in it.
void expect_one_line(const Called& called) {
  static const std::regex form(R"(headlens: error: \[[^\]]+\] .+, expected .+, got.+\n)");
  EXPECT_TRUE(std::regex_match(called.err, form)) << called.err;
  EXPECT_EQ(called.err.find("c10::"), std::string::npos) << called.err;
  EXPECT_EQ(called.err.find('\x1b'), std::string::npos) << called.err;
  EXPECT_EQ(called.out, "");
}

class Errors : public ::testing::Test {
 protected:
  /// What a call says before it fails is not looked at here, whatever ran before in this process.
  void SetUp() override { set_log_level(LogLevel::Warn); }
  std::string path(const std::string& name) const { return (dir_.path() / name).string(); }

  /// Calls and checks form and status; the words after "headlens: error: ".
  std::string error(int status, const std::vector<std::string>& words) const {
    const Called called = testing::headlens(words);
    EXPECT_EQ(called.status, status) << called.err;
    expect_one_line(called);
    return called.err.substr(17, called.err.size() - 18);
  }
  std::string eval_error(int status, const std::string& model, const std::string& task) const {
    return error(status, {"eval", model, "--task", task});
  }
  std::string line_error(const std::string& line) const {
    return eval_error(1, model_, "jsonl:" + dir_.write("bad.jsonl", line + "\n").string());
  }
  /// A copy of the model with one thing changed in its config.
  std::string with_config(const std::string& from, const std::string& to) const {
    const auto copy = dir_.path() / "changed";
    std::filesystem::remove_all(copy);
    std::filesystem::copy(model_, copy);
    std::string config = testing::read_file(copy / "config.json");
    const size_t at = config.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    dir_.write("changed/config.json", config.replace(at, from.size(), to));
    return copy.string();
  }

  TempDir dir_;
  std::string model_ = model_with_words(dir_, "llama").string();
  std::string task_ = "jsonl:" + word_task(dir_, 4).string();
};

TEST_F(Errors, CommandsAndFlags) {
  const std::string commands =
      "inspect, tokenize, run, verify, map, task, eval, find, ablate, attribute, circuit, patch, "
      "prune, generate, graft, compare, scores, reproduce, export, completion";
  EXPECT_EQ(error(2, {}), "[headlens] command, expected one of " + commands + ", got none");
  EXPECT_EQ(error(2, {"fnd"}), "[headlens] command, expected one of " + commands +
                                   ", got 'fnd' (did you mean 'find'?)");
  EXPECT_EQ(error(2, {"eval", model_, "--tsak", "kv"}),
            "[eval] flag, expected one of headlens eval --help, got '--tsak' (did you mean "
            "'--task'?)");
  EXPECT_EQ(error(2, {"eval"}), "[eval] MODEL, expected a value, got none");
  EXPECT_EQ(error(2, {"eval", model_}), "[eval] --task, expected a value, got none");
  EXPECT_EQ(error(2, {"eval", model_, "--task"}), "[eval] --task, expected a value, got none");
  EXPECT_EQ(error(2, {"eval", model_, "more", "--task", "kv"}),
            "[eval] arguments, expected those of headlens eval --help, got also 'more'");
  EXPECT_EQ(error(2, {"eval", model_, "--task", "kv", "--seed", "-1"}),
            "[eval] --seed, expected a whole number from 0, got '-1'");
  EXPECT_EQ(error(2, {"find", model_, "--task", "kv", "--out", path("o"), "--groups", "many"}),
            "[find] --groups, expected a number, got 'many'");
  EXPECT_EQ(error(2, {"find", model_, "--task", "kv", "--out", path("o"), "--groups", "0"}),
            "[flags] --groups, expected 1 to 2147483647, got 0");
  EXPECT_EQ(error(2, {"find", model_, "--task", "kv", "--out", path("o"), "--min-drop", "2"}),
            "[find] --min-drop, expected 0 to 1, got 2");
  EXPECT_EQ(error(2, {"find", model_, "--task", "kv"}), "[find] --out, expected a value, got none");
}

TEST_F(Errors, NumbersThatCouldBeReadInTwoWays) {
  const auto find = [&](const char* flag, const char* value) {
    return error(2, {"find", model_, "--task", task_, "--out", path("o"), flag, value});
  };
  EXPECT_EQ(find("--groups", "010"),
            "[find] --groups, expected a number without zeros before it, got '010'");
  EXPECT_EQ(find("--groups", ""), "[find] --groups, expected a number, got ''");
  EXPECT_EQ(find("--min-drop", ""), "[find] --min-drop, expected a finite number, got ''");
  EXPECT_EQ(error(2, {"verify", model_, "--golden", "g", "--atol", "inf"}),
            "[verify] --atol, expected a finite number, got 'inf'");
  EXPECT_EQ(error(2, {"inspect", model_, "--pos", "5", "--pos", "6"}),
            "[inspect] --pos, expected once, got it more often");
}

TEST_F(Errors, FlagsThatWouldDoNothing) {
  const auto find = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"find", model_, "--task", task_, "--out", path("o")});
    return error(2, more);
  };
  EXPECT_EQ(find({"--bos"}),
            "[bos] --bos, expected a tokenizer that adds a start token, got one that adds none");
  EXPECT_EQ(
      find({"--placement", "pre_norm"}),
      "[flags] --placement, expected post_norm in a model without Mamba-2 layers, got pre_norm");
  EXPECT_EQ(find({"--heads", "0.0", "--groups", "4"}),
            "[find] --groups, expected without --heads, got 4 with both");
  EXPECT_EQ(
      error(2, {"run", model_, "--ids", "f", "--bos", "--record", "logits", "--out", path("r")}),
      "[run] --bos, expected with --text, got it with --ids");
  EXPECT_EQ(error(2, {"inspect", model_, "--device", "gpu"}),
            "[device] --device, expected cpu, cuda, cuda:N or cuda:N,cuda:M.., got 'gpu'");
  EXPECT_EQ(error(2, {"tokenize", model_, "--text", "w1", "--dtype", "int3"}),
            "[dtype] --dtype, expected float32, bfloat16, float16 or float64, got 'int3'");
}

TEST_F(Errors, Models) {
  EXPECT_EQ(eval_error(2, path("none"), "kv"),
            "[model] MODEL, expected a checkpoint directory, zoo:NAME or random:DIR, got '" +
                path("none") + "'");
  EXPECT_EQ(eval_error(2, "random:" + path("none"), "kv"),
            "[model] MODEL, expected a checkpoint directory, zoo:NAME or random:DIR, got 'random:" +
                path("none") + "'");
  std::filesystem::create_directory(path("empty"));
  EXPECT_EQ(eval_error(1, path("empty"), "kv"),
            "[" + path("empty") + "] checkpoint, expected a config.json in it, got none");
  EXPECT_NE(eval_error(1, with_config("LlamaForCausalLM", "Gpt9ForCausalLM"), task_)
                .find("architecture, expected one of LlamaForCausalLM, "),
            std::string::npos);
  EXPECT_NE(eval_error(1, with_config("{", "{\"soft_capping\": 30.0,"), task_)
                .find("] keys, expected only known ones, got also soft_capping"),
            std::string::npos);
  EXPECT_NE(
      eval_error(1, with_config("\"intermediate_size\": 52", "\"intermediate_size\": 60"), task_)
          .find("] tensor 'model.layers.0.mlp."),
      std::string::npos);
  EXPECT_NE(eval_error(1, with_config("{", "{ \"a\": [,"), task_)
                .find("config.json:1:9] text, expected valid JSON, got "),
            std::string::npos);
}

TEST_F(Errors, FilesCutShort) {
  const auto weights = std::filesystem::path(model_) / "model.safetensors";
  const auto whole = std::filesystem::file_size(weights);
  for (const uintmax_t size : {whole - 1, whole / 2, uintmax_t{100}, uintmax_t{7}, uintmax_t{0}}) {
    std::filesystem::resize_file(weights, size);
    EXPECT_EQ(eval_error(1, model_, task_).find("[" + weights.string() + "] "), 0u) << size;
    EXPECT_EQ(error(1, {"inspect", model_}).find("[" + weights.string() + "] "), 0u) << size;
  }
  std::filesystem::remove(std::filesystem::path(model_) / "tokenizer.json");
  std::filesystem::remove(weights);
  std::filesystem::copy_file(testing::kGoldens / "llama" / "model.safetensors", weights);
  EXPECT_EQ(eval_error(1, model_, task_),
            "[" + model_ +
                "/tokenizer.json] file, expected a readable one, got none; check the path "
                "and who may read it");
}

TEST_F(Errors, Tasks) {
  const std::string unknown = eval_error(2, model_, "vk");
  EXPECT_TRUE(unknown.starts_with("[task] task, expected one of kv, mcq, ")) << unknown;
  EXPECT_TRUE(unknown.ends_with(", got 'vk' (did you mean 'kv'?)")) << unknown;
  EXPECT_EQ(eval_error(2, model_, "kv:pairs=1"),
            "[task] kv: pairs, expected an integer 2 to 100, got '1'");
  const std::string where = "[task] " + path("bad.jsonl") + " line 1: ";
  EXPECT_EQ(line_error(R"({"prompt": "w1", "choices": [" w2", " w3"]})"),
            where + "'answer', expected in the line, got none");
  EXPECT_EQ(line_error(R"({"prompt": "w1", "choices": [" w2", " w3"], "answer": 2})"),
            where + "'answer', expected 0 to 1, got 2");
  EXPECT_EQ(line_error(R"({"prompt": "w1 w2", "choices": [" w2", " w3"], "answer": 0, )"
                       R"("segments": [[0, 2]]})"),
            where + "'segments', expected 0 <= start <= end < 2 (the prompt's tokens), got [0, 2]");
  EXPECT_EQ(line_error(R"({"prompt": )").find(where + "text, expected valid JSON, got "), 0u);
  EXPECT_EQ(line_error(""),
            "[task] " + path("bad.jsonl") + ": examples, expected at least one, got none");
  EXPECT_EQ(line_error("{\"prompt\": \"\xff\"}").find(where + "text, expected valid JSON"), 0u);
  EXPECT_EQ(eval_error(1, model_, "jsonl:" + path("no.jsonl")),
            "[task] " + path("no.jsonl") +
                ": file, expected a readable one, got none; check the path "
                "and who may read it");
}

TEST_F(Errors, Heads) {
  const auto heads = [&](const std::string& words) {
    return error(2, {"ablate", model_, "--task", task_, "--heads", words});
  };
  EXPECT_EQ(heads("9.9"), "[heads] 9.9, expected a layer from 0 to 2, got 9");
  EXPECT_EQ(heads("0.1,1.4"), "[heads] 1.4, expected a head from 0 to 3 in layer 1, got 4");
  EXPECT_EQ(heads("1.2,1.0-3"), "[heads] 1.0-3, expected each head once, got it in 1.2 as well");
  for (const char* word : {"", "1", "1.", ".1", "1.x", "x.1", "1.2.3", "-1.0", "1.3-2", "1 .0",
                           "99999999999999999999.0"}) {
    EXPECT_EQ(heads(word), std::string("[heads] --heads, expected LAYER.HEAD or LAYER.FIRST-LAST, "
                                       "got '") +
                               word + "'");
  }
  EXPECT_EQ(error(2, {"ablate", model_, "--task", task_, "--heads", "0.0-3", "--keep"}),
            "[ablate] heads to cut, expected at least one, got none");
  const std::string channels = model_with_words(dir_, "mamba").string();
  EXPECT_EQ(error(2, {"map", channels, "--text", "w1", "--heads", "0.56", "--out", path("m.npz")}),
            "[heads] 0.56, expected a channel from 0 to 55 in layer 0, got 56");
  const std::string hybrid = model_with_words(dir_, "nemotron_h").string();
  EXPECT_NE(error(2, {"map", hybrid, "--text", "w1", "--heads", "1.0", "--out", path("m.npz")})
                .find("expected a layer with heads, got one with an MLP only"),
            std::string::npos);
}

TEST_F(Errors, DevicesAndDtypes) {
  const auto device = [&](int status, const std::string& word) {
    return error(status, {"eval", model_, "--task", task_, "--device", word});
  };
  EXPECT_EQ(device(2, "gpu"),
            "[device] --device, expected cpu, cuda, cuda:N or cuda:N,cuda:M.., got 'gpu'");
  EXPECT_EQ(device(2, "cuda:x"),
            "[device] --device, expected cpu, cuda, cuda:N or cuda:N,cuda:M.., got 'cuda:x'");
  for (const char* word : {"cuda:0,x1", "cuda:0,", ",cuda:0", "cuda:0,cpu", "cpu,cuda:0",
                           "cuda,cuda:1", "cpu,cpu", ",", "cuda:0,,cuda:1", "cuda:0, cuda:1"}) {
    EXPECT_EQ(
        device(2, word),
        std::string("[device] --device, expected cpu, cuda, cuda:N or cuda:N,cuda:M.., got '") +
            word + "'");
  }
  if (cuda_available()) {
    EXPECT_EQ(device(2, "cuda:0,cuda:0"),
              "[device] --device, expected each device once, got 'cuda:0,cuda:0'");
  }
  if (!cuda_available()) {
    EXPECT_NE(device(1, "cuda").find("device 'cuda', expected "), std::string::npos);
  }
  EXPECT_EQ(error(2, {"eval", model_, "--task", task_, "--dtype", "int8"}),
            "[dtype] --dtype, expected float32, bfloat16, float16 or float64, got 'int8'");
}

TEST_F(Errors, PlacesToWrite) {
  const std::string file = dir_.write("file", "x").string();
  EXPECT_NE(error(1, {"find", model_, "--task", task_, "--out", file}).find("[out] " + file),
            std::string::npos);
  EXPECT_NE(error(1, {"find", model_, "--task", task_, "--out", file + "/x"}).find("[out] " + file),
            std::string::npos);
  EXPECT_EQ(error(1, {"eval", model_, "--task", task_, "--out", dir_.path().string()}),
            "[out] " + dir_.path().string() + ", expected a file to write, got a directory");
  EXPECT_EQ(error(1, {"eval", model_, "--task", task_, "--out", path("no/x.json")}),
            "[out] " + path("no") +
                ", expected a directory to write in, got: No such file or "
                "directory; make it first, or name another with --out");
  EXPECT_EQ(error(2, {"run", model_, "--text", "w1", "--record", "logits"}),
            "[run] --out, expected a file, got none");
  EXPECT_EQ(error(2, {"map", model_, "--text", "w1", "--heads", "0.0", "--out", path("m.txt")}),
            "[map] --out, expected a .safetensors, .npz, .csv, .json or .html file (or none, to "
            "see the maps here), got '" +
                path("m.txt") + "'");
  EXPECT_EQ(error(2, {"run", model_, "--text", "w1", "--record", "logits", "--out", path("r.txt")}),
            "[run] --out, expected a .safetensors, .npz, .csv or .json file, got '" +
                path("r.txt") + "'");
}

TEST_F(Errors, TextsAndSites) {
  const auto run = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"run", model_, "--out", path("r.safetensors")});
    return error(2, words);
  };
  EXPECT_EQ(run({"--text", "", "--record", "logits"}), "[text] tokens, expected at least 1, got 0");
  EXPECT_EQ(run({"--record", "logits"}),
            "[run] input, expected one of --text and --ids, got neither");
  EXPECT_EQ(run({"--text", "w1", "--ids", "x", "--record", "logits"}),
            "[run] input, expected one of --text and --ids, got both");
  EXPECT_EQ(run({"--text", "w1", "--record", "logit"}),
            "[hooks] hook name, expected a site of this model (did you mean 'logits'?), got "
            "'logit'");
  EXPECT_EQ(error(2, {"map", model_, "--text", "w1 w2", "--heads", "0.0", "--out", path("m.npz"),
                      "--rows", "2"}),
            "[map] --rows, expected -2 to 1, got 2");
  EXPECT_EQ(
      run({"--text", "w1", "--record", "logits", "--tokenizer", path("none")}),
      "[tokenizer] --tokenizer, expected a tokenizer.json, a .model file or a directory, got '" +
          path("none") + "'");
  EXPECT_EQ(run({"--ids", "x", "--record", "logits", "--tokenizer", model_}),
            "[run] --tokenizer, expected with --text, got it with --ids");
  const std::string input =
      "[tokenize] input, expected --text and --file, or --decode, or --chat, ";
  EXPECT_EQ(error(2, {"tokenize", model_}), input + "got none");
  EXPECT_EQ(error(2, {"tokenize", model_, "--text", "w1", "--decode", "1"}), input + "got several");
  EXPECT_EQ(error(2, {"tokenize", model_, "--text", "w1", "--chat", "x"}), input + "got several");
  EXPECT_EQ(error(2, {"tokenize", model_, "--text", "w1", "--generation-prompt"}),
            "[tokenize] --generation-prompt, expected with --chat, got it without");
  EXPECT_EQ(error(2, {"tokenize", model_, "--chat", "x", "--special"}),
            "[tokenize] --special, expected without --chat (a template writes its own), got both");
  EXPECT_EQ(error(2, {"tokenize", model_, "--decode", "1,x"}),
            "[tokenize] --decode, expected a number, got '1,x'");
  EXPECT_EQ(error(2, {"tokenize", model_, "--file", path("none")}),
            "[tokenize] --file, expected a readable file, got '" + path("none") +
                "'; check the path and who may read it");
}

TEST_F(Errors, Goldens) {
  const auto verify = [&](const std::string& golden) {
    return error(1, {"verify", model_, "--golden", golden});
  };
  EXPECT_EQ(verify(path("none")),
            "[" + path("none") +
                "] file, expected to be opened, got No such file or directory; check the path and "
                "who may read it");
  EXPECT_NE(verify(model_ + "/model.safetensors").find("'input_ids', expected in the file"),
            std::string::npos);
  const std::string other = (testing::kGoldens / "mamba2" / "golden.safetensors").string();
  EXPECT_NE(verify(other).find("got a name that its layers (attention) do not have"),
            std::string::npos);
}

TEST_F(Errors, TheZoo) {
  const char* before = std::getenv("HEADLENS_ZOO");
  const std::string kept = before == nullptr ? "" : before;
  setenv("HEADLENS_ZOO", path("no_zoo").c_str(), 1);
  EXPECT_EQ(error(1, {"inspect", "zoo:list"}),
            "[zoo] " + path("no_zoo") +
                ", expected bundled models (HEADLENS_ZOO names their folder), got No such file or "
                "directory");
  setenv("HEADLENS_ZOO", dir_.path().c_str(), 1);
  EXPECT_EQ(testing::headlens({"inspect", "zoo:list"}).out, "zoo:llama\n");
  EXPECT_EQ(testing::headlens({"inspect", "zoo:llama"}).status, 0);
  EXPECT_EQ(eval_error(2, "zoo:lama", "kv"),
            "[zoo] model, expected one of llama, got 'lama' (did you mean 'llama'?)");
  before == nullptr ? unsetenv("HEADLENS_ZOO") : setenv("HEADLENS_ZOO", kept.c_str(), 1);
}

TEST_F(Errors, AMessageStaysOneLineWhateverTheNames) {
  EXPECT_EQ(
      eval_error(2, "no\nsuch\x1b[31m", "kv"),
      "[model] MODEL, expected a checkpoint directory, zoo:NAME or random:DIR, got 'no such [31m'");
}

}  // namespace
}  // namespace headlens
