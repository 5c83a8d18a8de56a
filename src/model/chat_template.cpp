// headlens/model: conversations written out as the text a chat model was trained on.
#include "headlens/model/chat_template.h"

#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "core/json_fields.h"
#include "model/chat_format.h"
#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_config(const fs::path& directory) {
  const fs::path path = directory / "tokenizer_config.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return json::object();
  json config = read_json_file(path);
  HEADLENS_CHECK(ConfigError, config.is_object(), "[{}] file, expected an object, got {}",
                 path.string(), describe_json(config));
  return config;
}

/// A token is written as its text or as {"content": text, ...}.
std::string token_text(const json& config, const char* key) {
  const json token = config.value(key, json());
  const json content = token.is_object() ? token.value("content", json()) : token;
  return content.is_string() ? content.get<std::string>() : std::string();
}

/// "chat_template" is one text, or a list of named ones, of which "default" counts.
std::optional<std::string> config_template(const json& config) {
  const json found = config.value("chat_template", json());
  if (found.is_string()) return found.get<std::string>();
  if (!found.is_array()) return std::nullopt;
  for (const json& entry : found) {
    const bool is_default = entry.is_object() && entry.value("name", json()) == "default";
    if (is_default && entry.value("template", json()).is_string()) {
      return entry.at("template").get<std::string>();
    }
  }
  return std::nullopt;
}

std::optional<std::string> read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in.good()) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace

struct ChatTemplate::Impl {
  const ChatFormat* format;
  std::string bos, eos;
};

ChatTemplate::ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

ChatTemplate ChatTemplate::load(const fs::path& directory) {
  const json config = read_config(directory);
  std::string where = (directory / "chat_template.jinja").string();
  std::optional<std::string> text = read_text(where);
  if (!text) {
    where = (directory / "tokenizer_config.json").string() + ": chat_template";
    text = config_template(config);
  }
  HEADLENS_CHECK(ConfigError, text.has_value(),
                 "[{}] chat template, expected chat_template.jinja or a chat_template in "
                 "tokenizer_config.json, got neither",
                 directory.string());
  return from_text(*text, token_text(config, "bos_token"), token_text(config, "eos_token"), where);
}

ChatTemplate ChatTemplate::from_text(std::string_view text, std::string bos_token,
                                     std::string eos_token, const std::string& where) {
  const uint64_t hash = hash_chat_template(text);
  const ChatFormat* format = find_chat_format(hash);
  HEADLENS_CHECK(ConfigError, format != nullptr,
                 "[{}] chat template, expected one of those in docs/tokenizers.md, got {} (hash "
                 "{:016x}), which is not known",
                 where, describe_json(json(repair_utf8(text))), hash);
  const bool has_tokens =
      (!format->needs_bos || !bos_token.empty()) && (!format->needs_eos || !eos_token.empty());
  HEADLENS_CHECK(ConfigError, has_tokens,
                 "[{}] chat template {}, expected bos_token and eos_token in "
                 "tokenizer_config.json, got \"{}\" and \"{}\"",
                 where, format->name, bos_token, eos_token);
  return ChatTemplate(
      std::make_shared<const Impl>(Impl{format, std::move(bos_token), std::move(eos_token)}));
}

std::string ChatTemplate::apply(std::span<const ChatMessage> messages,
                                bool add_generation_prompt) const {
  HEADLENS_CHECK(UsageError, !messages.empty(),
                 "[chat template {}] messages, expected at least one, got none",
                 impl_->format->name);
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    HEADLENS_CHECK(UsageError, role == "system" || role == "user" || role == "assistant",
                   "[chat template {}] role of turn {}, expected system, user or assistant, got "
                   "\"{}\"",
                   impl_->format->name, i, role);
    HEADLENS_CHECK(UsageError, !find_invalid_utf8(messages[i].content),
                   "[chat template {}] content of turn {}, expected UTF-8, got other bytes",
                   impl_->format->name, i);
  }
  return impl_->format->write({messages, add_generation_prompt, impl_->bos, impl_->eos});
}

std::string ChatTemplate::name() const {
  return std::string(impl_->format->name);
}

}  // namespace headlens
