// headlens/model: what each known chat template writes.
#include "model/chat_format.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

using Messages = std::span<const ChatMessage>;

/// White space to Python's str.strip(), which Jinja's trim is.
bool is_python_space(uint32_t c) {
  return is_space(c) || (c >= 0x1C && c <= 0x1F);
}

std::string_view trim(std::string_view text) {
  while (!text.empty()) {
    size_t end = 0;
    if (!is_python_space(next_code_point(text, end))) break;
    text.remove_prefix(end);
  }
  while (!text.empty()) {
    const size_t start = previous_code_point(text, text.size());
    size_t i = start;
    if (!is_python_space(next_code_point(text, i))) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

std::string_view strip_left(std::string_view text, char c) {
  return text.substr(std::min(text.find_first_not_of(c), text.size()));
}
std::string_view strip_right(std::string_view text, char c) {
  return text.substr(0, text.find_last_not_of(c) + 1);
}

bool starts_with_system(Messages messages) {
  return messages[0].role == "system";
}

void check_alternation(const ChatFormat& format, Messages turns) {
  for (size_t i = 0; i < turns.size(); ++i) {
    const std::string_view wanted = i % 2 == 0 ? "user" : "assistant";
    HEADLENS_CHECK(
        UsageError, turns[i].role == wanted,
        "[chat template {}] turn {}, expected {} (user and assistant take turns), got {}",
        format.name, i, wanted, turns[i].role);
  }
}

// Llama-3.

std::string llama3_turn(std::string_view role, std::string_view content) {
  return fmt::format("<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>", role, trim(content));
}

constexpr std::string_view kLlama3Prompt = "<|start_header_id|>assistant<|end_header_id|>\n\n";

std::string llama3_turns(const Chat& chat, Messages messages) {
  std::string out;
  for (const ChatMessage& m : messages) out += llama3_turn(m.role, m.content);
  if (chat.generation_prompt) out += kLlama3Prompt;
  return out;
}

std::string write_llama3(const Chat& chat) {
  return std::string(chat.bos) + llama3_turns(chat, chat.messages);
}

/// The first release's template asked for an answer whether or not one was wanted.
std::string write_llama3_prompting(Chat chat) {
  chat.generation_prompt = true;
  return write_llama3(chat);
}

std::string write_llama31(const Chat& chat) {
  const bool system = starts_with_system(chat.messages);
  const std::string head = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n" +
                           std::string(system ? trim(chat.messages[0].content) : "");
  // The template trims the system message alone: a head without one keeps its newlines.
  return fmt::format("{}<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>{}", chat.bos,
                     head, llama3_turns(chat, chat.messages.subspan(system ? 1 : 0)));
}

// ChatML, and the Qwen models that use it.

std::string chatml_turn(std::string_view role, std::string_view content) {
  return fmt::format("<|im_start|>{}\n{}<|im_end|>\n", role, content);
}

std::string chatml(const Chat& chat, std::string_view default_system) {
  std::string out;
  if (!default_system.empty() && !starts_with_system(chat.messages)) {
    out += chatml_turn("system", default_system);
  }
  for (const ChatMessage& m : chat.messages) out += chatml_turn(m.role, m.content);
  if (chat.generation_prompt) out += "<|im_start|>assistant\n";
  return out;
}

std::string write_chatml(const Chat& chat) {
  return chatml(chat, "");
}
std::string write_qwen2(const Chat& chat) {
  return chatml(chat, "You are a helpful assistant.");
}
std::string write_qwen25(const Chat& chat) {
  return chatml(chat, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.");
}

/// Where the last question stands: thoughts before it are dropped.
size_t qwen3_last_query(Messages messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const std::string_view text = messages[i].content;
    const bool tool = text.starts_with("<tool_response>") && text.ends_with("</tool_response>");
    if (messages[i].role == "user" && !tool) return i;
  }
  return messages.size() - 1;
}

std::string qwen3_answer(std::string_view content, bool after_query, bool is_last) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  std::string_view thoughts;
  if (const size_t close = content.find(kClose); close != std::string_view::npos) {
    thoughts = strip_right(content.substr(0, close), '\n');
    const size_t open = thoughts.rfind(kOpen);
    if (open != std::string_view::npos) thoughts = thoughts.substr(open + kOpen.size());
    thoughts = strip_left(thoughts, '\n');
    content = strip_left(content.substr(content.rfind(kClose) + kClose.size()), '\n');
  }
  if (!after_query || (!is_last && thoughts.empty())) return std::string(content);
  return fmt::format("<think>\n{}\n</think>\n\n{}", strip_right(strip_left(thoughts, '\n'), '\n'),
                     strip_left(content, '\n'));
}

std::string write_qwen3(const Chat& chat) {
  const size_t query = qwen3_last_query(chat.messages);
  std::string out;
  for (size_t i = 0; i < chat.messages.size(); ++i) {
    const ChatMessage& m = chat.messages[i];
    const bool answer = m.role == "assistant";
    const bool is_last = i + 1 == chat.messages.size();
    out += chatml_turn(m.role, answer ? qwen3_answer(m.content, i > query, is_last) : m.content);
  }
  if (chat.generation_prompt) out += "<|im_start|>assistant\n";
  return out;
}

// Mistral.

std::string mistral(const ChatFormat& format, const Chat& chat, std::string_view after_answer) {
  check_alternation(format, chat.messages);
  std::string out(chat.bos);
  for (const ChatMessage& m : chat.messages) {
    out += m.role == "user" ? fmt::format("[INST] {} [/INST]", m.content)
                            : fmt::format("{}{}{}", m.content, chat.eos, after_answer);
  }
  return out;
}

std::string write_mistral(const Chat& chat);
std::string write_mistral_spaced(const Chat& chat);

std::string write_mistral_nemo(const Chat& chat);

// Gemma.

std::string write_gemma(const Chat& chat);

// Phi-3.

std::string phi3(const Chat& chat, bool empty_system) {
  std::string out;
  for (const ChatMessage& m : chat.messages) {
    if (m.role == "system" && m.content.empty() && !empty_system) continue;
    out += fmt::format("<|{}|>\n{}<|end|>\n", m.role, m.content);
  }
  out += chat.generation_prompt ? std::string_view("<|assistant|>\n") : chat.eos;
  return out;
}

std::string write_phi3(const Chat& chat) {
  return phi3(chat, true);
}
std::string write_phi35(const Chat& chat) {
  return phi3(chat, false);
}

constexpr ChatFormat kLlama3{"llama-3", true, false, &write_llama3};
constexpr ChatFormat kLlama3Prompting{"llama-3 (first release)", true, false, [](const Chat& chat) {
                                        return write_llama3_prompting(chat);
                                      }};
constexpr ChatFormat kLlama31{"llama-3.1", true, false, &write_llama31};
constexpr ChatFormat kChatml{"chatml", false, false, &write_chatml};
constexpr ChatFormat kQwen2{"qwen2", false, false, &write_qwen2};
constexpr ChatFormat kQwen25{"qwen2.5", false, false, &write_qwen25};
constexpr ChatFormat kQwen3{"qwen3", false, false, &write_qwen3};
constexpr ChatFormat kMistral{"mistral", true, true, &write_mistral};
constexpr ChatFormat kMistralSpaced{"mistral (spaced)", true, true, &write_mistral_spaced};
constexpr ChatFormat kMistralNemo{"mistral-nemo", true, true, &write_mistral_nemo};
constexpr ChatFormat kGemma{"gemma", true, false, &write_gemma};
constexpr ChatFormat kPhi3{"phi-3", false, true, &write_phi3};
constexpr ChatFormat kPhi35{"phi-3.5", false, true, &write_phi35};

std::string write_mistral(const Chat& chat) {
  return mistral(kMistral, chat, "");
}
std::string write_mistral_spaced(const Chat& chat) {
  return mistral(kMistralSpaced, chat, " ");
}

/// The system message goes into the last turn, and nowhere if the assistant has that.
std::string write_mistral_nemo(const Chat& chat) {
  const bool system = starts_with_system(chat.messages);
  const Messages turns = chat.messages.subspan(system ? 1 : 0);
  check_alternation(kMistralNemo, turns);
  std::string out(chat.bos);
  for (size_t i = 0; i < turns.size(); ++i) {
    if (turns[i].role == "assistant") {
      out += fmt::format("{}{}", turns[i].content, chat.eos);
      continue;
    }
    const bool first = system && i + 1 == turns.size();
    out += fmt::format("[INST]{}{}{}[/INST]", first ? chat.messages[0].content : "",
                       first ? "\n\n" : "", turns[i].content);
  }
  return out;
}

/// Between the user's turns stands anything else, a system message too.
std::string write_gemma(const Chat& chat) {
  std::string out(chat.bos);
  for (size_t i = 0; i < chat.messages.size(); ++i) {
    const auto& [role, content] = chat.messages[i];
    HEADLENS_CHECK(UsageError, (role == "user") == (i % 2 == 0),
                   "[chat template {}] turn {}, expected {}, got {}", kGemma.name, i,
                   i % 2 == 0 ? "user" : "no user", role);
    out += fmt::format("<start_of_turn>{}\n{}<end_of_turn>\n", role == "assistant" ? "model" : role,
                       trim(content));
  }
  if (chat.generation_prompt) out += "<start_of_turn>model\n";
  return out;
}

/// Hashes of template texts. First of each format our own spelling (tests/golden/chat), then those
/// that checkpoints were published with.
constexpr std::pair<uint64_t, const ChatFormat*> kKnown[] = {
    {0x7CEDDD47DC0D1D88u, &kLlama3},
    {0x0E60067A5537498Eu, &kLlama3},
    {0x709B5609BF616524u, &kLlama3Prompting},
    {0x74891E390E614AE2u, &kLlama3Prompting},
    {0xC586FDB0C1222C9Fu, &kLlama31},
    {0xCC0368E1FFB6B958u, &kLlama31},
    {0x8290F41C222E8C42u, &kChatml},
    {0x88BF4138D5C826F0u, &kChatml},
    {0x2D2692D6E29DD80Au, &kQwen2},
    {0x8A87094E0E1E24C5u, &kQwen2},
    {0xBE8E45B111EBC6D2u, &kQwen25},
    {0xE642CE246D7F2E3Du, &kQwen25},
    {0xE36A2F3D61AD99CFu, &kQwen3},
    {0x2BFDB7AA9754484Eu, &kQwen3},
    {0xF7C4F8617E6BED57u, &kMistral},
    {0x8C734B90B4F8D84Du, &kMistral},
    {0x4261CDDAC5895925u, &kMistralSpaced},
    {0xC730ACC029CE6EE0u, &kMistralSpaced},
    {0x0022A3B724E07B6Fu, &kMistralNemo},
    {0xC134BF40D6F56D76u, &kMistralNemo},
    {0x575005F19E4B5B23u, &kGemma},
    {0x5C10EE65212D93B3u, &kGemma},
    {0xEB877C059D0A7ECCu, &kPhi3},
    {0xECEBDB26677C663Du, &kPhi3},
    {0x781534EFC8F3FDE0u, &kPhi35},
    {0xCF278CDE387A54C8u, &kPhi35},
};

}  // namespace

const ChatFormat* find_chat_format(uint64_t template_hash) {
  for (const auto& [hash, format] : kKnown) {
    if (hash == template_hash) return format;
  }
  return nullptr;
}

uint64_t hash_chat_template(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return hash;
}

}  // namespace headlens
