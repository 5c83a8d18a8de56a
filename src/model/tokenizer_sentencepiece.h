// headlens/model: SentencePiece models, the `tokenizer.model` of Llama-1/2, Mistral and Gemma.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "model/tokenizer_body.h"

namespace headlens {

/// Reads the bytes of a SentencePiece model; the library cuts the texts. Control pieces and the
/// unknown piece are found in a text before it does, and so are the tokens that a
/// tokenizer_config.json or added_tokens.json beside the file adds. Throws ConfigError.
std::unique_ptr<const TokenizerBody> read_sentencepiece(std::string_view bytes,
                                                        const std::filesystem::path& path);

}  // namespace headlens
