// headlens/tasks: prompts put together as lm-evaluation-harness 0.4 does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

/// One question of an evaluation set, its template filled in.
struct HarnessDoc {
  std::string text;                  // what is asked
  std::vector<std::string> choices;  // continuations, without the space before them
  std::vector<std::string> leads;    // of each choice, right after the text; empty: none
  int64_t answer = 0;
  std::vector<ByteSpan> spans;  // bytes of the text: listed options
  std::string everything;       // the record as it was read: two equal ones are one question
  std::string source;
};

/// description + (text + " " + answer + "\n\n") of the first `shots` + text. An example equal to
/// the question is left out, as in the harness. White space at the end of the prompt goes to the
/// front of the choices: tokens are split there. Lengths are those of the choices in code points.
Example harness_example(std::string_view description, const std::vector<HarnessDoc>& shots,
                        const HarnessDoc& doc);

/// Where the examples before a question come from.
struct ShotSource {
  int64_t shots = 0;
  /// The examples are the questions themselves: one more is looked at, as each leaves itself out.
  bool own_questions = false;
};

/// The first questions of `pool` that go before `doc`.
std::vector<HarnessDoc> first_shots(const std::vector<HarnessDoc>& pool, const HarnessDoc& doc,
                                    const ShotSource& source);

}  // namespace headlens
