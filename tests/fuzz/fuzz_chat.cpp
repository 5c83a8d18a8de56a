// headlens/tests: fuzzes chat templates, where they are kept, and the conversations given to them.
#include "fuzz_tools.h"
#include "headlens/model/chat_template.h"

/// The input: a tokenizer_config.json, or, cut by NULs, a template, a start token, an end token,
/// and roles and contents in turn.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const headlens::fuzz::Scratch scratch;
  using headlens::ChatTemplate;
  const std::string_view input = headlens::fuzz::view(data, size);
  headlens::fuzz::only_errors([&] {
    if (input.starts_with('{') && input.substr(1, 1) != "%" && input.substr(1, 1) != "{") {
      scratch.write("tokenizer_config.json", input);
      ChatTemplate::load(scratch.folder()).name();
      return;
    }
    std::vector<std::string> parts = headlens::fuzz::parts_of(input);
    parts.resize(std::max<size_t>(parts.size(), 3));
    const auto chat = ChatTemplate::from_text(parts[0], parts[1], parts[2], "template");
    std::vector<headlens::ChatMessage> messages;
    for (size_t i = 3; i + 1 < parts.size(); i += 2) messages.push_back({parts[i], parts[i + 1]});
    headlens::fuzz::only_errors([&] { chat.apply(messages, /*add_generation_prompt=*/false); });
    chat.apply(messages, /*add_generation_prompt=*/true);
  });
  return 0;
}
