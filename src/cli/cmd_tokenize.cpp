// headlens/cli: `tokenize`: text to ids and back.
#include <fstream>
#include <iterator>
#include <optional>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/output.h"
#include "core/check.h"
#include "core/json_fields.h"
#include "headlens/model/chat_template.h"
#include "headlens/report/json_report.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::vector<std::string> texts;
  std::string file;
  std::optional<std::vector<int64_t>> ids;
  bool special = false;
  std::string chat;
  bool generation_prompt = false;
};

std::string read_text(const char* flag, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  HEADLENS_CHECK(UsageError, in.good() && !std::filesystem::is_directory(path),
                 "[tokenize] {}, expected a readable file, got '{}'", flag, path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string encoded(const Tokenizer& tokenizer, const Flags& flags) {
  std::vector<std::string> texts = flags.texts;
  if (!flags.file.empty()) texts.push_back(read_text("--file", flags.file));
  Json all = Json::array();
  std::string lines;
  for (const std::string& text : texts) {
    all.push_back(tokenizer.encode(text, flags.special));
    lines += all.back().dump() + "\n";
  }
  return flags.json ? all.dump() + "\n" : lines;
}

std::string decoded(const Tokenizer& tokenizer, const Flags& flags) {
  const std::string text = tokenizer.decode(*flags.ids, /*skip_special_tokens=*/!flags.special);
  return (flags.json ? Json(text).dump() : text) + "\n";
}

/// [{"role": ..., "content": ...}, ...]
std::vector<ChatMessage> read_messages(const std::string& path) {
  const Json list = parse_json(read_text("--chat", path), path);
  HEADLENS_CHECK(ConfigError, list.is_array(), "[{}] messages, expected an array, got {}", path,
                 describe_json(list));
  std::vector<ChatMessage> messages;
  for (const Json& item : list) {
    const JsonFields fields(item, path);
    messages.push_back(
        {fields.required<std::string>("role"), fields.required<std::string>("content")});
    fields.check_all_read();
  }
  return messages;
}

std::string chat_ids(const Tokenizer& tokenizer, const std::filesystem::path& directory,
                     const Flags& flags) {
  const std::vector<ChatMessage> messages = read_messages(flags.chat);
  const std::string text = ChatTemplate::load(directory).apply(messages, flags.generation_prompt);
  return Json(tokenizer.encode(text)).dump() + "\n";
}

void check_input(const Flags& flags) {
  const bool encodes = !flags.texts.empty() || !flags.file.empty();
  const int kinds = (encodes ? 1 : 0) + (flags.ids ? 1 : 0) + (flags.chat.empty() ? 0 : 1);
  HEADLENS_CHECK(UsageError, kinds == 1,
                 "[tokenize] input, expected --text and --file, or --decode, or --chat, got {}",
                 kinds == 0 ? "none" : "several");
  HEADLENS_CHECK(UsageError, !flags.generation_prompt || !flags.chat.empty(),
                 "[tokenize] --generation-prompt, expected with --chat, got it {}", "without");
  HEADLENS_CHECK(
      UsageError, !flags.special || flags.chat.empty(),
      "[tokenize] --special, expected without --chat (a template writes its own), got {}", "both");
}

int tokenize_texts(const Flags& flags) {
  check_input(flags);
  check_common_flags(flags);
  check_writable(flags.out);
  std::error_code ignored;
  const bool is_file = std::filesystem::is_regular_file(flags.model, ignored);
  const std::filesystem::path path = is_file ? flags.model : model_directory(flags.model).string();
  const Tokenizer tokenizer = Tokenizer::load(path);
  const std::string result = flags.ids ? decoded(tokenizer, flags)
                             : flags.chat.empty()
                                 ? encoded(tokenizer, flags)
                                 : chat_ids(tokenizer, is_file ? path.parent_path() : path, flags);
  if (!flags.out.empty()) write_report_file(flags.out, result);
  print(result);
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("tokenize", "Text to token ids, one JSON array a text, and back");
  add_common_flags(*command, *flags, "file for the result");
  command->get_option("--json")->description(
      "print one JSON document: an array of the texts' arrays, or the decoded text as a string");
  command->get_option("MODEL")->description(
      "checkpoint directory, zoo:NAME, a tokenizer.json or a .model file");
  command->add_option("--text", flags->texts, "text to encode; may be given again")
      ->allow_extra_args(false);
  command->add_option("--file", flags->file, "file to encode as one text");
  command->add_option("--decode", flags->ids, "ids to decode, comma-separated")->delimiter(',');
  command->add_flag("--special", flags->special, "add special tokens; keep them when decoding");
  command->add_option("--chat", flags->chat,
                      "JSON file of messages [{role, content}], written by the chat template");
  command->add_flag("--generation-prompt", flags->generation_prompt,
                    "end --chat where the assistant's next turn begins");
  command->callback([flags, &action] { action = [flags] { return tokenize_texts(*flags); }; });
}

}  // namespace headlens::cli
