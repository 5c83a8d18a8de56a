// headlens/tasks: facts of the made-up world as text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tasks/draw.h"
#include "tasks/prompts.h"

namespace headlens {

/// Indices into the world's entities and relations.
struct WorldFact {
  int64_t entity = 0;
  int64_t relation = 0;
};

/// "The colour of Belora is"
std::string fact_text(const WorldFact& fact);
/// "What is the colour of Belora?"
std::string fact_question_text(const WorldFact& fact);
/// The values the relation can have, and which of them is right.
const std::vector<std::string>& fact_values(const WorldFact& fact);
int64_t fact_answer(const WorldFact& fact);
/// The right value among `options` - 1 wrong ones of the same relation.
LetterQuestion draw_fact_options(const WorldFact& fact, int64_t options, Draw& draw);

}  // namespace headlens
