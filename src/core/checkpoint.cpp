// headlens/core: one Hugging Face checkpoint directory.
#include "headlens/core/checkpoint.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "core/json_fields.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kTorchSingle = "pytorch_model.bin";
constexpr const char* kTorchIndex = "pytorch_model.bin.index.json";

/// Whether there is something of that name, readable or not: what is wrong with it, opening says.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
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
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(dir, ignored)) {
    const std::string name = entry.path().filename().string();
    const std::string kind = entry.path().extension().string();
    if (kind == ".bin" || kind == ".pth" || kind == ".pt" || kind == ".safetensors") other = name;
  }
  HEADLENS_FAIL(CheckpointError, "[{}] weights, expected {}, {} or an index of either, got {}",
                dir.string(), kSingle, kTorchSingle,
                other.empty() ? "neither" : fmt::format("only {}", other));
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
std::string middle_bytes(const WeightFile& file, const std::string& name) {
  constexpr uint64_t kSample = 64;
  const TensorInfo& info = file.info(name);
  std::string bytes(std::min(kSample, info.end - info.begin), '\0');
  file.read(name, (info.end - info.begin - bytes.size()) / 2, bytes.data(), bytes.size());
  return bytes;
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& dir) {
  std::error_code ignored;
  HEADLENS_CHECK(CheckpointError, fs::is_directory(dir, ignored),
                 "[{}] checkpoint, expected a directory, got {}", dir.string(),
                 is_there(dir) ? "a file" : "nothing there");
  HEADLENS_CHECK(CheckpointError, is_there(dir / kConfig),
                 "[{}] checkpoint, expected a {} in it, got none", dir.string(), kConfig);
  Checkpoint out;
  out.dir_ = dir;
  try {
    out.config_json_ = read_text_file(dir / kConfig);
  } catch (const ConfigError& error) {
    throw CheckpointError(error.what());
  }
  if (is_there(dir / kSingle)) {
    out.add_single_file(kSingle);
  } else if (is_there(dir / kIndex)) {
    out.add_shards(kIndex);
  } else if (is_there(dir / kTorchSingle)) {
    out.add_single_file(kTorchSingle);
  } else if (is_there(dir / kTorchIndex)) {
    out.add_shards(kTorchIndex);
  } else {
    fail_without_weights(dir);
  }
  out.find_shared();
  return out;
}

void Checkpoint::add_single_file(const std::string& name) {
  files_.push_back(WeightFile::open(dir_ / name));
  for (const std::string& tensor : files_.back().names()) entries_[tensor] = {0, tensor};
}

void Checkpoint::add_shards(const std::string& index_name) {
  const fs::path index = dir_ / index_name;
  const std::map<std::string, std::string> weight_map = read_weight_map(index);
  std::map<std::string, size_t> opened;  // shard file name -> index into files_
  for (const auto& [name, shard] : weight_map) {
    HEADLENS_CHECK(
        CheckpointError, shard.find('\0') == std::string::npos,  // the system stops there
        "[{}] tensor '{}', expected a file's name, got one with a NUL in it", index.string(), name);
    HEADLENS_CHECK(CheckpointError, stays_inside(shard),
                   "[{}] tensor '{}', expected a file in the directory, got '{}'", index.string(),
                   name, shard);
    const auto [it, is_new] = opened.emplace(shard, files_.size());
    if (is_new) {
      HEADLENS_CHECK(CheckpointError, is_there(dir_ / shard),
                     "[{}] shard '{}', expected in the directory, got none", index.string(), shard);
      files_.push_back(WeightFile::open(dir_ / shard));
    }
    HEADLENS_CHECK(CheckpointError, files_[it->second].has(name),
                   "[{}] tensor '{}', expected in shard '{}', got none there", index.string(), name,
                   shard);
    entries_[name] = {it->second, name};
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

void Checkpoint::find_shared() {
  std::map<std::pair<size_t, uint64_t>, std::vector<std::string>> starting;  // at a place, names
  for (auto& [name, entry] : entries_) {
    const WeightFile& file = files_[entry.file];
    const TensorInfo& info = file.info(name);
    std::vector<std::string>& here = starting[{entry.file, info.begin}];
    const auto same = std::find_if(here.begin(), here.end(), [&](const std::string& other) {
      return file.info(other) == info;
    });
    if (same == here.end()) {
      here.push_back(name);
    } else {
      entry.first_name = *same;
    }
  }
}

std::optional<fs::path> Checkpoint::tokenizer_path() const {
  fs::path path = dir_ / "tokenizer.json";
  if (!is_there(path)) return std::nullopt;
  return path;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> out;
  out.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) out.push_back(name);
  return out;
}

bool Checkpoint::has(std::string_view name) const {
  return entries_.contains(name);
}

const Checkpoint::Entry& Checkpoint::entry(std::string_view name) const {
  const auto it = entries_.find(name);
  HEADLENS_CHECK(CheckpointError, it != entries_.end(),
                 "[{}] tensor '{}', expected in the checkpoint, got none", dir_.string(), name);
  return it->second;
}

const WeightFile& Checkpoint::file_of(std::string_view name) const {
  return files_[entry(name).file];
}

const TensorInfo& Checkpoint::info(std::string_view name) const {
  return file_of(name).info(name);
}

Tensor Checkpoint::tensor(std::string_view name) const {
  return file_of(name).tensor(name);
}

const std::string& Checkpoint::first_name(std::string_view name) const {
  return entry(name).first_name;
}

int64_t Checkpoint::weight_bytes() const {
  int64_t total = 0;
  for (const auto& [name, entry] : entries_) {
    if (entry.first_name == name) total += files_[entry.file].info(name).bytes();
  }
  return total;
}

std::string Checkpoint::fingerprint() const {
  Fnv1a hash;
  hash.add(config_json_);
  for (const WeightFile& file : files_) {
    hash.add(file.file_size());
    hash.add(file.header());
    for (const std::string& name : file.names()) hash.add(middle_bytes(file, name));
  }
  return fmt::format("{:016x}", hash.value());
}

}  // namespace headlens
