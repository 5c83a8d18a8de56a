// headlens/tests: chat templates against what Jinja writes.
#include "headlens/model/chat_template.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "core/json_fields.h"
#include "headlens/core/error.h"
#include "model/chat_format.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using nlohmann::json;
using testing::error_message;
using testing::TempDir;

const json& expected() {
  static const json value =
      read_json_file(std::filesystem::path(HEADLENS_GOLDEN_DIR) / "chat" / "expected.json");
  return value;
}

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const auto& item : expected()["cases"].items()) names.push_back(item.key());
  return names;
}

std::string template_of(const std::string& name) {
  return expected()["cases"][name]["template"];
}

std::vector<ChatMessage> messages_of(const json& turns) {
  std::vector<ChatMessage> out;
  for (const json& turn : turns) out.push_back({turn["role"], turn["content"]});
  return out;
}

// One format, whose conversations transformers has written.
class ChatFormats : public ::testing::TestWithParam<std::string> {};

TEST_P(ChatFormats, WritesAsJinjaDoes) {
  const json& golden = expected()["cases"][GetParam()];
  const auto chat = ChatTemplate::from_text(template_of(GetParam()), "<bos>", "<eos>", "test");
  EXPECT_EQ(chat.name(), GetParam());
  size_t i = 0, written = 0;
  for (const json& turns : expected()["messages"]) {
    const std::vector<ChatMessage> messages = messages_of(turns);
    for (const bool prompt : {false, true}) {
      const json& wanted = golden["texts"][i++];
      if (wanted.is_null()) {
        EXPECT_THROW(chat.apply(messages, prompt), UsageError) << turns.dump();
      } else {
        EXPECT_EQ(chat.apply(messages, prompt), wanted.get<std::string>()) << turns.dump();
        ++written;
      }
    }
  }
  EXPECT_EQ(i, golden["texts"].size());
  EXPECT_GT(written, 10u);
}

TEST_P(ChatFormats, IsKnownByItsHashAlone) {
  const std::string text = template_of(GetParam());
  EXPECT_EQ(fmt::format("{:016x}", hash_chat_template(text)),
            expected()["cases"][GetParam()]["hash"]);
  EXPECT_EQ(ChatTemplate::from_text(text + "\n", "<bos>", "<eos>", "test").name(), GetParam());
  EXPECT_THROW(ChatTemplate::from_text(text + "\n\n", "b", "e", "test"), ConfigError);
  EXPECT_THROW(ChatTemplate::from_text(" " + text, "b", "e", "test"), ConfigError);
}

INSTANTIATE_TEST_SUITE_P(All, ChatFormats, ::testing::ValuesIn(format_names()),
                         [](const auto& info) {
                           std::string name;
                           for (const char c : info.param) name += isalnum(c) != 0 ? c : '_';
                           return name;
                         });

TEST(ChatTemplate, IsReadFromTheFilesOfACheckpoint) {
  const TempDir directory;
  EXPECT_EQ(error_message<ConfigError>([&] { ChatTemplate::load(directory.path()); }),
            "[" + directory.path().string() +
                "] chat template, expected chat_template.jinja or a chat_template in "
                "tokenizer_config.json, got neither");
  json config = {{"bos_token", {{"content", "<s>"}}}, {"eos_token", "</s>"}};
  config["chat_template"] = {{{"name", "rag"}, {"template", template_of("chatml")}},
                             {{"name", "default"}, {"template", template_of("mistral")}}};
  directory.write("tokenizer_config.json", config.dump());
  const std::vector<ChatMessage> talk = {{"user", "a"}, {"assistant", "b"}};
  EXPECT_EQ(ChatTemplate::load(directory.path()).apply(talk, false), "<s>[INST] a [/INST]b</s>");
  config["chat_template"] = template_of("gemma");
  directory.write("tokenizer_config.json", config.dump());
  EXPECT_EQ(ChatTemplate::load(directory.path()).name(), "gemma");
  directory.write("chat_template.jinja", template_of("llama-3"));  // it comes first
  EXPECT_EQ(ChatTemplate::load(directory.path()).name(), "llama-3");
}

TEST(ChatTemplate, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(error_message<ConfigError>([] { ChatTemplate::from_text("{{ x }}", "", "", "file"); }),
            "[file] chat template, expected one of those in docs/tokenizers.md, got string "
            "\"{{ x }}\" (hash eaa07e5967e2ed43), which is not known");
  EXPECT_EQ(error_message<ConfigError>(
                [] { ChatTemplate::from_text(template_of("mistral"), "<s>", "", "file"); }),
            "[file] chat template mistral, expected bos_token and eos_token in "
            "tokenizer_config.json, got \"<s>\" and \"\"");
  const auto chat = ChatTemplate::from_text(template_of("qwen2"), "", "", "file");
  EXPECT_EQ(error_message<UsageError>([&] { chat.apply({}, true); }),
            "[chat template qwen2] messages, expected at least one, got none");
  const std::vector<ChatMessage> tool = {{"user", "a"}, {"tool", "b"}};
  EXPECT_EQ(error_message<UsageError>([&] { chat.apply(tool, true); }),
            "[chat template qwen2] role of turn 1, expected system, user or assistant, got "
            "\"tool\"");
}

}  // namespace
}  // namespace headlens
