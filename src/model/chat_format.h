// headlens/model: what each known chat template writes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "headlens/model/chat_template.h"

namespace headlens {

/// A conversation to be written, and the tokens that a template may write around it.
struct Chat {
  std::span<const ChatMessage> messages;  // not empty; roles system, user, assistant
  bool generation_prompt = false;
  std::string_view bos, eos;
};

/// How a conversation is written. Throws UsageError where the template would raise an error.
struct ChatFormat {
  std::string_view name;
  bool needs_bos = false, needs_eos = false;
  std::string (*write)(const Chat& chat) = nullptr;
};

/// The format of a template by the hash of its text, or nullptr.
const ChatFormat* find_chat_format(uint64_t template_hash);

/// FNV-1a, 64 bits, of a template's text without the one newline at its end that Jinja drops.
uint64_t hash_chat_template(std::string_view text);

}  // namespace headlens
