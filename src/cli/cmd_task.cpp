// headlens/cli: `task`: what a task asks, one JSON object an example.
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/output.h"
#include "core/check.h"
#include "core/whole_file.h"
#include "headlens/tasks/generative.h"
#include "headlens/tasks/task.h"

namespace headlens::cli {
namespace {

struct Flags {
  std::string task;
  std::filesystem::path out;
  uint64_t seed = 0;
  bool quiet = false;  // nothing to be quiet about: as every other command takes it
  bool json = false;   // one document rather than a line for each example
};

Json spans_json(const std::vector<ByteSpan>& spans) {
  Json list = Json::array();
  for (const ByteSpan& span : spans) list.push_back({span.begin, span.end});
  return list;
}

Json example_json(const Example& example) {
  Json line = {
      {"prompt", example.prompt}, {"choices", example.choices}, {"answer", example.answer}};
  if (!example.segments.empty()) {
    for (const Segment& s : example.segments) line["segments"].push_back({s.start, s.end});
  }
  if (!example.spans.empty()) line["spans"] = spans_json(example.spans);
  if (!example.leads.empty()) line["choice_leads"] = example.leads;
  if (!example.lengths.empty()) line["choice_lengths"] = example.lengths;
  line["source"] = example.source;
  return line;
}

std::vector<Json> choice_examples(const Flags& flags) {
  std::vector<Json> all;
  for (const Example& example : make_task(flags.task, flags.seed).examples) {
    all.push_back(example_json(example));
  }
  return all;
}

std::vector<Json> generative_examples(const Flags& flags) {
  const GenerativeTask task = make_generative_task(flags.task);
  std::vector<Json> all;
  for (const GenerativeExample& example : task.examples) {
    all.push_back({{"prompt", example.prompt},
                   {"target", example.target},
                   {"stop", task.stop},
                   {"max_new_tokens", task.max_new_tokens},
                   {"source", example.source}});
  }
  return all;
}

std::string lines_of(const std::vector<Json>& examples) {
  std::string lines;
  for (const Json& example : examples) lines += example.dump() + "\n";
  return lines;
}

int show(const Flags& flags) {
  check_writable(flags.out);
  const std::vector<Json> examples =
      is_generative_task(flags.task) ? generative_examples(flags) : choice_examples(flags);
  if (!flags.out.empty()) write_whole_file(flags.out, lines_of(examples));
  if (flags.json) {
    print(json_text({{"task", flags.task}, {"seed", flags.seed}, {"examples", examples}}));
  } else if (flags.out.empty()) {
    print(lines_of(examples));
  }
  return 0;
}

}  // namespace

void add_task(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "task", "What a task asks: its examples as JSON Lines, byte spans for segments");
  command
      ->add_option("TASK", flags->task,
                   fmt::format("as --task of the other commands, or one of {}",
                               fmt::join(known_generative_tasks(), ", ")))
      ->required();
  command->add_option("--out", flags->out, "file for the lines");
  add_seed_flag(*command, flags->seed);
  command->add_flag("--quiet", flags->quiet, "taken by every command; here there is no progress");
  command->add_flag("--json", flags->json, "print one JSON document instead of lines");
  command->callback([flags, &action] { action = [flags] { return show(*flags); }; });
}

}  // namespace headlens::cli
