// headlens/cli: token ids from a text or a file.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>

#include "cli/common.h"

namespace headlens::cli {

/// [1, pos] int64. UsageError for a text without tokens, and as `check_bos`.
Tensor text_ids(const LoadedModel& loaded, const std::string& text, const CommonFlags& flags);

/// The tokenizer of --tokenizer, else of the directory. UsageError if --tokenizer names no file.
Tokenizer load_tokenizer(const std::filesystem::path& directory, const CommonFlags& flags);
/// The ids by that one, for a model that is not loaded yet.
Tensor text_ids(const std::filesystem::path& directory, const std::string& text,
                const CommonFlags& flags);

/// The int64 tensor `input_ids` [batch, pos] of a safetensors or .npz file. CheckpointError if it
/// is not there.
Tensor file_ids(const std::filesystem::path& file);

/// The int64 tensor `first` [batch] beside it: where each row's text begins after its left padding.
/// Undefined where there is none.
Tensor file_first(const std::filesystem::path& file);

}  // namespace headlens::cli
