// headlens/core: one Hugging Face checkpoint directory.
#include "headlens/core/checkpoint.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "core/check.h"
#include "core/json_fields.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  HEADLENS_CHECK(CheckpointError, file.good(), "[{}] file, expected a readable one, got none",
                 path.string());
  return text.str();
}

/// Whether an index entry names a file in or below the directory. Symbolic links are followed: a
/// Hugging Face cache is made of them, and whoever made the directory made them.
bool stays_inside(const fs::path& entry) {
  return !entry.empty() && entry.is_relative() &&
         std::none_of(entry.begin(), entry.end(),
                      [](const fs::path& part) { return part == ".."; });
}

/// tensor name -> shard file name, from the index.
std::map<std::string, std::string> read_weight_map(const fs::path& path) {
  try {
    const JsonFields index(read_json_file(path), path.string());
    const JsonFields weight_map = index.object("weight_map");
    std::map<std::string, std::string> out;
    for (const auto& [name, value] : weight_map.value().items()) {
      out.emplace(name, weight_map.required<std::string>(name));
    }
    return out;
  } catch (const ConfigError& error) {
    throw CheckpointError(error.what());
  }
}

/// Says what is there instead of weights we read.
[[noreturn]] void fail_without_weights(const fs::path& dir) {
  std::string other;
  for (const auto& entry : fs::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".bin") || name.ends_with(".pth") || name.ends_with(".pt")) {
      HEADLENS_FAIL(CheckpointError,
                    "[{}] weights, expected {} or {}, got only {}; convert the checkpoint to "
                    "safetensors (save_pretrained in transformers writes it)",
                    dir.string(), kSingle, kIndex, name);
    }
    if (name.ends_with(".safetensors")) other = name;
  }
  HEADLENS_FAIL(CheckpointError, "[{}] weights, expected {} or {}, got {}", dir.string(), kSingle,
                kIndex, other.empty() ? "neither" : other);
}

/// FNV-1a, 64 bits: short, stable and the same everywhere. It guards against mix-ups, not attacks.
class Fnv1a {
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) hash_ = (hash_ ^ static_cast<uint8_t>(byte)) * 0x100000001b3ULL;
  }
  void add(int64_t value) {
    for (int shift = 0; shift < 64; shift += 8) {
      const char byte = static_cast<char>(static_cast<uint64_t>(value) >> shift & 0xff);
      add(std::string_view(&byte, 1));
    }
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325ULL;
};

/// Bytes from the middle of a tensor, enough to tell two trainings of one architecture apart.
std::string middle_bytes(const Tensor& tensor) {
  constexpr size_t kSample = 64;
  const size_t size = std::min(kSample, tensor.nbytes());
  if (size == 0) return {};
  const size_t start = (tensor.nbytes() - size) / 2;
  return {static_cast<const char*>(tensor.const_data_ptr()) + start, size};
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& dir) {
  HEADLENS_CHECK(CheckpointError, fs::is_directory(dir),
                 "[{}] checkpoint, expected a directory, got {}", dir.string(),
                 fs::exists(dir) ? "a file" : "nothing there");
  HEADLENS_CHECK(CheckpointError, fs::is_regular_file(dir / kConfig),
                 "[{}] checkpoint, expected a {} in it, got none", dir.string(), kConfig);
  Checkpoint out;
  out.dir_ = dir;
  out.config_json_ = read_text(dir / kConfig);
  if (fs::exists(dir / kSingle)) {
    out.add_single_file();
  } else if (fs::exists(dir / kIndex)) {
    out.add_shards();
  } else {
    fail_without_weights(dir);
  }
  return out;
}

void Checkpoint::add_single_file() {
  files_.push_back(SafetensorsFile::open(dir_ / kSingle));
  for (std::string& name : files_.back().names()) file_index_.emplace(std::move(name), 0);
}

void Checkpoint::add_shards() {
  const fs::path index = dir_ / kIndex;
  const std::map<std::string, std::string> weight_map = read_weight_map(index);
  std::map<std::string, size_t> opened;  // shard file name -> index into files_
  for (const auto& [name, shard] : weight_map) {
    HEADLENS_CHECK(CheckpointError, stays_inside(shard),
                   "[{}] tensor '{}', expected a file in the directory, got '{}'", index.string(),
                   name, shard);
    const auto [it, is_new] = opened.emplace(shard, files_.size());
    if (is_new) {
      HEADLENS_CHECK(CheckpointError, fs::exists(dir_ / shard),
                     "[{}] shard '{}', expected in the directory, got none", index.string(), shard);
      files_.push_back(SafetensorsFile::open(dir_ / shard));
    }
    HEADLENS_CHECK(CheckpointError, files_[it->second].has(name),
                   "[{}] tensor '{}', expected in shard '{}', got none there", index.string(), name,
                   shard);
    file_index_.emplace(name, it->second);
  }
  for (const auto& [shard, i] : opened) {
    for (const std::string& name : files_[i].names()) {
      const auto listed = weight_map.find(name);
      HEADLENS_CHECK(CheckpointError, listed != weight_map.end(),
                     "[{}] tensor '{}' of shard '{}', expected in the index, got none",
                     index.string(), name, shard);
      HEADLENS_CHECK(CheckpointError, listed->second == shard,
                     "[{}] tensor '{}', expected in shard '{}' only, got it in '{}' too",
                     index.string(), name, listed->second, shard);
    }
  }
}

std::optional<fs::path> Checkpoint::tokenizer_path() const {
  fs::path path = dir_ / "tokenizer.json";
  if (!fs::exists(path)) return std::nullopt;
  return path;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> out;
  out.reserve(file_index_.size());
  for (const auto& [name, index] : file_index_) out.push_back(name);
  return out;
}

bool Checkpoint::has(std::string_view name) const {
  return file_index_.contains(name);
}

const SafetensorsFile& Checkpoint::file_of(std::string_view name) const {
  const auto it = file_index_.find(name);
  HEADLENS_CHECK(CheckpointError, it != file_index_.end(),
                 "[{}] tensor '{}', expected in the checkpoint, got none", dir_.string(), name);
  return files_[it->second];
}

const TensorInfo& Checkpoint::info(std::string_view name) const {
  return file_of(name).info(name);
}

Tensor Checkpoint::tensor(std::string_view name) const {
  return file_of(name).tensor(name);
}

int64_t Checkpoint::weight_bytes() const {
  int64_t total = 0;
  for (const auto& [name, index] : file_index_) total += files_[index].info(name).bytes();
  return total;
}

std::string Checkpoint::fingerprint() const {
  Fnv1a hash;
  hash.add(config_json_);
  for (const SafetensorsFile& file : files_) {
    hash.add(file.file_size());
    hash.add(file.header());
    for (const std::string& name : file.names()) hash.add(middle_bytes(file.tensor(name)));
  }
  return fmt::format("{:016x}", hash.value());
}

}  // namespace headlens
