// headlens/cli: `tokenize`: text to ids and back.
#include <fstream>
#include <iterator>
#include <optional>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/output.h"
#include "core/check.h"
#include "headlens/report/json_report.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::vector<std::string> texts;
  std::string file;
  std::optional<std::vector<int64_t>> ids;
  bool special = false;
};

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  HEADLENS_CHECK(UsageError, in.good() && !std::filesystem::is_directory(path),
                 "[tokenize] --file, expected a readable file, got '{}'", path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string encoded(const Tokenizer& tokenizer, const Flags& flags) {
  std::vector<std::string> texts = flags.texts;
  if (!flags.file.empty()) texts.push_back(read_text(flags.file));
  std::string lines;
  for (const std::string& text : texts) {
    lines += Json(tokenizer.encode(text, flags.special)).dump() + "\n";
  }
  return lines;
}

std::string decoded(const Tokenizer& tokenizer, const Flags& flags) {
  const std::string text = tokenizer.decode(*flags.ids, /*skip_special_tokens=*/!flags.special);
  return (flags.json ? Json(text).dump() : text) + "\n";
}

int tokenize_texts(const Flags& flags) {
  const bool encodes = !flags.texts.empty() || !flags.file.empty();
  HEADLENS_CHECK(UsageError, encodes != flags.ids.has_value(),
                 "[tokenize] input, expected --text and --file, or --decode, got {}",
                 encodes ? "both" : "none");
  check_common_flags(flags);
  check_writable(flags.out);
  std::error_code ignored;
  const bool is_file = std::filesystem::is_regular_file(flags.model, ignored);
  const Tokenizer tokenizer =
      Tokenizer::load(is_file ? std::filesystem::path(flags.model) : model_directory(flags.model));
  const std::string result = encodes ? encoded(tokenizer, flags) : decoded(tokenizer, flags);
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
  command->get_option("MODEL")->description("checkpoint directory, zoo:NAME or a tokenizer.json");
  command->add_option("--text", flags->texts, "text to encode; may be given again")
      ->allow_extra_args(false);
  command->add_option("--file", flags->file, "file to encode as one text");
  command->add_option("--decode", flags->ids, "ids to decode, comma-separated")->delimiter(',');
  command->add_flag("--special", flags->special, "add special tokens; keep them when decoding");
  command->callback([flags, &action] { action = [flags] { return tokenize_texts(*flags); }; });
}

}  // namespace headlens::cli
