// headlens/core: reading PyTorch's own weight files, without ever running what is in them.
#pragma once

#include <filesystem>

#include "headlens/core/weight_file.h"

namespace headlens {

/// A state dict as `torch.save` of PyTorch 1.6 or later writes it: a zip archive, stored, with one
/// pickle. That pickle is read as data by a reader of our own that knows what a flat dict of dense
/// tensors is made of and refuses all else by name; nothing is ever imported or called. Refused
/// too: nested dicts, values that are no tensors, older files, TorchScript, compressed archives,
/// and tensors that reach outside their storage.
class TorchFile : public WeightFile {
 public:
  /// Maps the file and checks the archive's directory, the pickle, and that every tensor lies
  /// within its storage. No tensor data is read.
  static TorchFile open(const std::filesystem::path& path);

 private:
  using WeightFile::WeightFile;
};

}  // namespace headlens
