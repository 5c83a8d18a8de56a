// headlens/tasks: prompts put together as lm-evaluation-harness 0.4 does.
#include "tasks/harness_prompt.h"

#include "core/check.h"
#include "tasks/python_text.h"

namespace headlens {
namespace {

std::string shown(const HarnessDoc& shot) {
  const auto right = static_cast<size_t>(shot.answer);
  const std::string lead = shot.leads.empty() ? "" : shot.leads[right];
  return shot.text + lead + " " + shot.choices[right] + "\n\n";
}

/// Cuts the white space off the end and returns it.
std::string take_trailing_space(std::string& text) {
  const size_t end = python_rstrip_end(text);
  std::string space = text.substr(end);
  text.resize(end);
  return space;
}

void check_doc(const HarnessDoc& doc) {
  for (size_t i = 0; i < doc.choices.size(); ++i) {
    HEADLENS_CHECK(TaskError, !doc.choices[i].empty(),
                   "[task] {}: choice {}, expected text, got none", doc.source, i);
    HEADLENS_CHECK(TaskError, doc.leads.empty() || !python_strip(doc.leads[i]).empty(),
                   "[task] {}: option {}, expected text, got none", doc.source, i);
  }
}

}  // namespace

Example harness_example(std::string_view description, const std::vector<HarnessDoc>& shots,
                        const HarnessDoc& doc) {
  check_doc(doc);
  Example out;
  out.prompt = description;
  for (const HarnessDoc& shot : shots) out.prompt += shown(shot);
  for (const ByteSpan& span : doc.spans) {
    out.spans.push_back({out.prompt.size() + span.begin, out.prompt.size() + span.end});
  }
  out.prompt += doc.text;
  out.leads = doc.leads;
  // With leads the prompt goes on: what ends there is the lead.
  const std::string space = doc.leads.empty() ? take_trailing_space(out.prompt) : "";
  for (size_t i = 0; i < doc.choices.size(); ++i) {
    const std::string own = doc.leads.empty() ? space : take_trailing_space(out.leads[i]);
    out.choices.push_back(own + " " + doc.choices[i]);
    out.lengths.push_back(python_length(doc.choices[i]));
  }
  out.answer = doc.answer;
  out.source = doc.source;
  return out;
}

std::vector<HarnessDoc> first_shots(const std::vector<HarnessDoc>& pool, const HarnessDoc& doc,
                                    const ShotSource& source) {
  const int64_t looked_at = source.shots + (source.own_questions ? 1 : 0);
  std::vector<HarnessDoc> out;
  for (int64_t i = 0; i < std::min(looked_at, std::ssize(pool)); ++i) {
    const HarnessDoc& shot = pool[static_cast<size_t>(i)];
    if (shot.everything != doc.everything) out.push_back(shot);
  }
  if (std::ssize(out) > source.shots) out.resize(static_cast<size_t>(source.shots));
  return out;
}

}  // namespace headlens
