// headlens/core: one Hugging Face checkpoint directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/core/weight_file.h"

namespace headlens {

/// A local directory with config.json and the first of these that is there: model.safetensors, its
/// shards by model.safetensors.index.json, pytorch_model.bin (see TorchFile), its shards by
/// pytorch_model.bin.index.json. Nothing is ever fetched.
class Checkpoint {
 public:
  /// Opens every weight file and checks that index and shards agree. Throws CheckpointError that
  /// names the missing or unlisted file or tensor.
  static Checkpoint open(const std::filesystem::path& dir);

  const std::filesystem::path& path() const { return dir_; }  ///< the directory
  /// The raw text of config.json.
  const std::string& config_json() const { return config_json_; }
  /// tokenizer.json in the directory, if there is one.
  std::optional<std::filesystem::path> tokenizer_path() const;

  /// Tensor names in sorted order.
  std::vector<std::string> names() const;
  bool has(std::string_view name) const;  ///< whether there is a tensor of this name
  /// Throws CheckpointError if there is no such tensor.
  const TensorInfo& info(std::string_view name) const;
  /// The tensor on the CPU in its stored dtype, viewing the mapped file.
  Tensor tensor(std::string_view name) const;
  /// The first name, in sorted order, of the same tensor in the same file: weights that share a
  /// storage are one.
  const std::string& first_name(std::string_view name) const;
  /// The file that holds the tensor.
  const WeightFile& file_of(std::string_view name) const;

  /// Bytes of all tensors as stored, those of several names once.
  int64_t weight_bytes() const;
  /// 16 hex digits over the config text, the headers or pickles, the file sizes and a few bytes
  /// from the middle of every tensor. Same on every machine, independent of the directory's place.
  std::string fingerprint() const;

 private:
  struct Entry {
    size_t file;  // index into files_
    std::string first_name;
  };

  Checkpoint() = default;
  void add_single_file(const std::string& name);
  void add_shards(const std::string& index_name);
  void find_shared();
  const Entry& entry(std::string_view name) const;

  std::filesystem::path dir_;
  std::string config_json_;
  std::vector<WeightFile> files_;
  std::map<std::string, Entry, std::less<>> entries_;  // by tensor name
};

}  // namespace headlens
