// headlens/cli: `tokenize`: text to ids and back.
#include <fmt/ranges.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "core/check.h"

namespace headlens::cli {
namespace {

struct Flags {
  std::string source;
  std::vector<std::string> texts;
  std::string file;
  std::vector<int64_t> ids;
  bool special = false;
};

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  HEADLENS_CHECK(UsageError, in.good(), "[tokenize] {}, expected a readable file", path);
  return {std::istreambuf_iterator<char>(in), {}};
}

int tokenize_texts(const Flags& flags) {
  const bool is_file = std::filesystem::is_regular_file(flags.source);
  const Tokenizer tokenizer = Tokenizer::load(is_file ? std::filesystem::path(flags.source)
                                                      : model_directory(flags.source));
  if (!flags.ids.empty()) {
    print(tokenizer.decode(flags.ids, !flags.special) + "\n");
    return 0;
  }
  std::vector<std::string> texts = flags.texts;
  if (!flags.file.empty()) texts.push_back(read_text(flags.file));
  HEADLENS_CHECK(UsageError, !texts.empty(),
                 "[tokenize] input, expected --text, --file or --decode, got none");
  for (const std::string& text : texts) {
    print(nlohmann::json(tokenizer.encode(text, flags.special)).dump() + "\n");
  }
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("tokenize", "Text to token ids, one JSON array a text, and back");
  command->add_option("MODEL", flags->source, "checkpoint directory, zoo:NAME or a tokenizer.json")
      ->required();
  command->add_option("--text", flags->texts, "text to encode");
  command->add_option("--file", flags->file, "file to encode as one text");
  command->add_option("--decode", flags->ids, "ids to decode, comma-separated")->delimiter(',');
  command->add_flag("--special", flags->special, "add special tokens; keep them when decoding");
  command->callback([flags, &action] { action = [flags] { return tokenize_texts(*flags); }; });
}

}  // namespace headlens::cli
