// headlens/tests: whatever is wrong with a checkpoint directory, one line naming file and key,
// status 1.
#include <gtest/gtest.h>

#include <functional>

#include "cli/command_tools.h"

namespace headlens {
namespace {

using testing::Called;
using testing::Json;
using testing::TempDir;

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kUp = "model.layers.0.mlp.up_proj.weight";

/// A copy of a golden model to be spoilt, file by file.
class BrokenCheckpoint {
 public:
  explicit BrokenCheckpoint(const TempDir& dir) : path_(dir.path() / "model") {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
    for (const char* file : {"config.json", kWeights}) {
      std::filesystem::copy_file(testing::kGoldens / "llama" / file, path_ / file);
    }
  }

  const std::filesystem::path& path() const { return path_; }
  std::string read(const std::string& file) const { return testing::read_file(path_ / file); }
  void write(const std::string& file, const std::string& bytes) const {
    std::ofstream(path_ / file, std::ios::binary) << bytes;
  }
  void remove(const std::string& file) const { std::filesystem::remove(path_ / file); }

  void edit_config(const std::function<void(Json&)>& edit) const {
    Json config = Json::parse(read("config.json"));
    edit(config);
    write("config.json", config.dump());
  }
  /// Changes the header and keeps the data.
  void edit_header(const std::function<void(Json&)>& edit) const {
    const std::string file = read(kWeights);
    uint64_t length = 0;
    for (size_t i = 8; i > 0; --i) length = length << 8 | static_cast<uint8_t>(file[i - 1]);
    Json header = Json::parse(file.substr(8, length));
    edit(header);
    write_with_header(header.dump(), file.substr(8 + length));
  }
  void write_with_header(const std::string& header, const std::string& data) const {
    std::string length;
    for (int i = 0; i < 8; ++i) length += static_cast<char>(header.size() >> (8 * i) & 0xff);
    write(kWeights, length + header + data);
  }
  /// The weights as one shard, with an index to be spoilt.
  void shard(const std::function<void(Json&)>& edit) const {
    const std::string file = read(kWeights);
    Json map = Json::object();
    edit_header([&](Json& header) {
      for (const auto& [name, entry] : header.items()) {
        if (name != "__metadata__") map[name] = "m-1.safetensors";
      }
    });
    write("m-1.safetensors", file);
    remove(kWeights);
    edit(map);
    write(kIndex, Json{{"weight_map", map}}.dump());
  }

 private:
  std::filesystem::path path_;
};

struct Case {
  std::string what;
  std::function<void(const BrokenCheckpoint&)> spoil;
  std::string file;     // "[DIR/file] " or, empty, "[DIR] " opens the message
  std::string message;  // the rest of it
  bool seen_by_inspect = true;
};

Case config_case(const std::string& what, const std::function<void(Json&)>& edit,
                 const std::string& message) {
  return {what, [edit](const BrokenCheckpoint& c) { c.edit_config(edit); }, "config.json", message};
}
Case header_case(const std::string& what, const std::function<void(Json&)>& edit,
                 const std::string& message) {
  return {what, [edit](const BrokenCheckpoint& c) { c.edit_header(edit); }, kWeights, message};
}

std::vector<Case> file_cases() {
  return {
      {"cut header", [](const auto& c) { c.write(kWeights, c.read(kWeights).substr(0, 100)); },
       kWeights,
       "header length, expected at most the 92 bytes that follow it, got 5048 (the file is cut "
       "short)"},
      {"oversized header", [](const auto& c) { c.write(kWeights, std::string(8, '\xff')); },
       kWeights, "header length, expected at most 100000000 bytes, got 18446744073709551615"},
      {"cut data",
       [](const auto& c) {
         c.write(kWeights, c.read(kWeights).substr(0, c.read(kWeights).size() - 4));
       },
       kWeights, "tensor 'model.norm.weight', data_offsets, expected a range within the file's"},
      {"header not JSON", [](const auto& c) { c.write_with_header("{\"a\": ", ""); }, kWeights,
       "header:1:7] text, expected valid JSON, got"},
      header_case(
          "past the end",
          [](Json& h) {
            h[kUp]["data_offsets"] = {0, int64_t{1} << 40};
          },
          std::string("tensor '") + kUp + "', data_offsets, expected a range within the file's"),
      header_case(
          "overlap",
          [](Json& h) {
            h[kUp]["data_offsets"] = h["model.layers.0.mlp.gate_proj.weight"]["data_offsets"];
          },
          "overlaps the tensor before it, expected offset"),
      header_case(
          "dtype", [](Json& h) { h[kUp]["dtype"] = "F4"; },
          std::string("tensor '") + kUp +
              "', dtype, expected one of F64, F32, F16, BF16, I64, "
              "I32, I16, I8, U8, BOOL, got string \"F4\" (not supported)"),
      header_case(
          "no shape", [](Json& h) { h[kUp].erase("shape"); },
          std::string("tensor '") + kUp + "', expected a key 'shape', got none"),
      {"missing shard", [](const auto& c) { c.shard([](Json& m) { m[kUp] = "m-2.safetensors"; }); },
       kIndex, "shard 'm-2.safetensors', expected in the directory, got none"},
      {"missing in the shard",
       [](const auto& c) { c.shard([](Json& m) { m["w"] = "m-1.safetensors"; }); }, kIndex,
       "tensor 'w', expected in shard 'm-1.safetensors', got none there"},
      {"not in the index", [](const auto& c) { c.shard([](Json& m) { m.erase(kUp); }); }, kIndex,
       std::string("tensor '") + kUp +
           "' of shard 'm-1.safetensors', expected in the index, got none"},
      {"shard elsewhere",
       [](const auto& c) { c.shard([](Json& m) { m[kUp] = "../m.safetensors"; }); }, kIndex,
       std::string("tensor '") + kUp +
           "', expected a file in the directory, got '../m.safetensors'"},
      {"broken index",
       [](const auto& c) {
         c.remove(kWeights);
         c.write(kIndex, "{\"weight_map\": {");
       },
       kIndex, ":1:17] text, expected valid JSON, got"},
      {"no weights", [](const auto& c) { c.remove(kWeights); }, "",
       "weights, expected model.safetensors, pytorch_model.bin or an index of either, got neither"},
      {"a pickle that calls",
       [](const auto& c) {
         c.remove(kWeights);
         c.write("pytorch_model.bin",
                 "\x80\x02"
                 "cos\nsystem\n(X\x02\x00\x00\x00hitR.");
       },
       "pytorch_model.bin",
       "file, expected the zip format of PyTorch 1.6 and later, got other bytes"},
  };
}

std::vector<Case> config_cases() {
  return {
      {"broken JSON", [](const auto& c) { c.write("config.json", "{\"model_type\": llama}"); },
       "config.json", ":1:16] text, expected valid JSON, got"},
      config_case(
          "missing key", [](Json& c) { c.erase("hidden_size"); },
          "key 'hidden_size', expected integer, got nothing"),
      config_case(
          "unknown family", [](Json& c) { c["architectures"] = {"Gpt9ForCausalLM"}; },
          "architecture, expected one of LlamaForCausalLM, "),
      config_case(
          "unknown key", [](Json& c) { c["sliding_window"] = 5; },
          "keys, expected only known ones, got also sliding_window"),
      config_case(
          "rope type",
          [](Json& c) {
            c.erase("rope_parameters");
            c["rope_theta"] = 1e4;
            c["rope_scaling"] = {{"rope_type", "ntk"}, {"factor", 2.0}};
          },
          "rope type, expected default, linear, dynamic, llama3, yarn or longrope, got 'ntk'"),
  };
}

std::vector<Case> tensor_cases() {
  std::vector<Case> cases = {
      {"missing tensor",
       [](const auto& c) {
         c.edit_header([](Json& h) {
           h["other"] = h[kUp];
           h.erase(kUp);
         });
       },
       "", std::string("tensor '") + kUp + "', expected shape [52, 36], got no such tensor"},
      {"wrong shape",
       [](const auto& c) {
         c.edit_header([](Json& h) { h[kUp]["shape"] = {h[kUp]["shape"][1], h[kUp]["shape"][0]}; });
       },
       "", std::string("tensor '") + kUp + "', expected shape [52, 36], got [36, 52]"},
      {"extra tensor",
       [](const auto& c) {
         c.edit_header([](Json& h) {
           h["extra"] = {{"dtype", "F32"}, {"shape", {0}}, {"data_offsets", {0, 0}}};
         });
       },
       "", "tensors, expected all to be read, got 1 unread: extra"},
      {"integers", [](const auto& c) { c.edit_header([](Json& h) { h[kUp]["dtype"] = "I32"; }); },
       "", std::string("tensor '") + kUp + "', expected a floating-point dtype, got int32"},
      {"dtype of the config",
       [](const auto& c) {
         c.edit_config([](Json& j) {
           j["dtype"] = "float8_e4m3fn";
           j.erase("torch_dtype");
         });
       },
       "config.json", ""},
  };
  for (Case& c : cases) c.seen_by_inspect = false;
  cases.back().seen_by_inspect = true;
  return cases;
}

void expect_line(const std::vector<std::string>& words, const BrokenCheckpoint& model,
                 const Case& c) {
  const Called called = testing::headlens(words);
  EXPECT_EQ(called.status, 1) << c.what;
  const std::string& line = called.err;
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << c.what << ": " << line;
  const std::string opening =
      "headlens: error: [" + (c.file.empty() ? model.path() : model.path() / c.file).string();
  EXPECT_EQ(line.rfind(opening, 0), 0u) << c.what << ": " << line;
  EXPECT_NE(line.find(c.message), std::string::npos) << c.what << ": " << line;
  EXPECT_NE(line.find("expected "), std::string::npos) << c.what << ": " << line;
  EXPECT_NE(line.find(", got"), std::string::npos) << c.what << ": " << line;
  EXPECT_EQ(called.out, "") << c.what;
}

void expect_lines(const std::vector<Case>& cases) {
  const TempDir dir;
  const std::string golden = (testing::kGoldens / "llama" / "golden.safetensors").string();
  const std::string out = (dir.path() / "out.safetensors").string();
  for (const Case& c : cases) {
    const BrokenCheckpoint model(dir);
    c.spoil(model);
    const std::string path = model.path().string();
    expect_line({"verify", path, "--golden", golden, "--device", "cpu"}, model, c);
    expect_line(
        {"run", path, "--ids", golden, "--record", "logits", "--out", out, "--device", "cpu"},
        model, c);
    if (c.seen_by_inspect) expect_line({"inspect", path}, model, c);
  }
}

TEST(BrokenCheckpoints, Files) {
  expect_lines(file_cases());
}
TEST(BrokenCheckpoints, Configs) {
  expect_lines(config_cases());
}
TEST(BrokenCheckpoints, Tensors) {
  expect_lines(tensor_cases());
}

TEST(BrokenCheckpoints, TheCopyItselfIsWhole) {
  const TempDir dir;
  const BrokenCheckpoint model(dir);
  const std::string golden = (testing::kGoldens / "llama" / "golden.safetensors").string();
  model.shard([](Json&) {});
  const Called called = testing::headlens({"verify", model.path().string(), "--golden", golden,
                                           "--device", "cpu", "--dtype", "float64"});
  EXPECT_EQ(called.status, 0) << called.err << called.out;
}

}  // namespace
}  // namespace headlens
