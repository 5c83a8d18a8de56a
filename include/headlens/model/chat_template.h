// headlens/model: conversations written out as the text a chat model was trained on.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace headlens {

/// One turn of a conversation.
struct ChatMessage {
  std::string role;     ///< system, user or assistant
  std::string content;  ///< text
};

/// A checkpoint's chat template. Templates are programs in a language (Jinja) that is not run here:
/// those of docs/tokenizers.md are recognised by a hash of their text, and what they write is
/// written exactly; any other is refused. Tools and documents are not offered to a template.
class ChatTemplate {
 public:
  /// Reads a directory's chat_template.jinja, else "chat_template" of its tokenizer_config.json,
  /// and the start and end tokens there. Throws ConfigError if there is none or it is not known.
  static ChatTemplate load(const std::filesystem::path& directory);

  /// A template from its text. Throws ConfigError, opening with `where`, if it is not known.
  static ChatTemplate from_text(std::string_view text, std::string bos_token, std::string eos_token,
                                const std::string& where);

  /// The text of a conversation, special tokens included: encode it without adding any. With
  /// `add_generation_prompt` it ends where the assistant's next turn begins, if the template has
  /// such a thing. Throws UsageError for a conversation that the template does not take.
  std::string apply(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

  /// The format's name in docs/tokenizers.md.
  std::string name() const;

 private:
  struct Impl;
  explicit ChatTemplate(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace headlens
