// headlens/cli: token ids from a text or a file.
#include "cli/ids.h"

#include <ATen/ATen.h>

#include "core/check.h"
#include "headlens/core/npz.h"
#include "headlens/core/safetensors.h"

namespace headlens::cli {

namespace {

Tensor ids_of(const Tokenizer& tokenizer, const std::string& text, const CommonFlags& flags) {
  check_bos(flags, tokenizer, text);
  const std::vector<int64_t> ids = tokenizer.encode(text, flags.bos);
  HEADLENS_CHECK(UsageError, !ids.empty(), "[text] tokens, expected at least 1, got 0");
  return at::tensor(ids, at::kLong).unsqueeze(0);
}

WeightFile open_ids(const std::filesystem::path& path) {
  if (path.extension() == ".npz") return NpzFile::open(path);
  return SafetensorsFile::open(path);
}

}  // namespace

Tokenizer load_tokenizer(const std::filesystem::path& directory, const CommonFlags& flags) {
  if (flags.tokenizer.empty()) return Tokenizer::load(directory);
  std::error_code ignored;
  HEADLENS_CHECK(UsageError, std::filesystem::exists(flags.tokenizer, ignored),
                 "[tokenizer] --tokenizer, expected a tokenizer.json, a .model file or a "
                 "directory, got '{}'",
                 flags.tokenizer);
  return Tokenizer::load(flags.tokenizer);
}

Tensor text_ids(const LoadedModel& loaded, const std::string& text, const CommonFlags& flags) {
  return ids_of(load_tokenizer(loaded, flags), text, flags);
}

Tensor text_ids(const std::filesystem::path& directory, const std::string& text,
                const CommonFlags& flags) {
  return ids_of(load_tokenizer(directory, flags), text, flags);
}

Tensor file_ids(const std::filesystem::path& path) {
  const WeightFile file = open_ids(path);
  Tensor ids = file.tensor("input_ids");
  HEADLENS_CHECK(ShapeError, ids.dim() == 2 && ids.scalar_type() == at::kLong && ids.numel() > 0,
                 "[{}] input_ids, expected int64 [batch, pos], got {} {}", path.string(),
                 dtype_name(ids.scalar_type()), shape_string(ids.sizes()));
  return ids;
}

Tensor file_first(const std::filesystem::path& path) {
  const WeightFile file = open_ids(path);
  return file.has("first") ? file.tensor("first") : Tensor();
}

}  // namespace headlens::cli
