// headlens/model: tiktoken vocabularies, the `tokenizer.model` of Llama-3.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "model/tokenizer_body.h"

namespace headlens {

/// Whether a file begins with a line "base64 rank". A SentencePiece model never does.
bool looks_like_tiktoken(std::string_view bytes);

/// Reads the bytes of a tiktoken file: one token a line in base64, and its rank, which is its id.
/// The file holds neither the expression that cuts words nor special tokens, so it is read only
/// where it must be Llama-3's: with 128000 tokens, or beside a config.json or params.json whose
/// vocab_size is its tokens and 256 special ones. Throws ConfigError.
std::unique_ptr<const TokenizerBody> read_tiktoken(std::string_view bytes,
                                                   const std::filesystem::path& path);

}  // namespace headlens
