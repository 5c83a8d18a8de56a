// headlens/tasks: facts of the made-up world as text.
#include "tasks/world_texts.h"

#include "headlens/tasks/world.h"

namespace headlens {
namespace {

std::string subject(const WorldFact& fact) {
  const World& world = made_up_world();
  return world.relations[static_cast<size_t>(fact.relation)].name + " of " +
         world.entities[static_cast<size_t>(fact.entity)];
}

}  // namespace

std::string fact_text(const WorldFact& fact) {
  return "The " + subject(fact) + " is";
}

std::string fact_question_text(const WorldFact& fact) {
  return "What is the " + subject(fact) + "?";
}

const std::vector<std::string>& fact_values(const WorldFact& fact) {
  return made_up_world().relations[static_cast<size_t>(fact.relation)].values;
}

int64_t fact_answer(const WorldFact& fact) {
  return made_up_world()
      .facts[static_cast<size_t>(fact.entity)][static_cast<size_t>(fact.relation)];
}

LetterQuestion draw_fact_options(const WorldFact& fact, int64_t options, Draw& draw) {
  const std::vector<std::string>& values = fact_values(fact);
  const int64_t right = fact_answer(fact);
  LetterQuestion question;
  question.answer = draw.below(options);
  for (const int64_t i : draw.sample(options - 1, std::ssize(values) - 1)) {
    question.options.push_back(values[static_cast<size_t>(i < right ? i : i + 1)]);
  }
  question.options.insert(question.options.begin() + question.answer,
                          values[static_cast<size_t>(right)]);
  return question;
}

}  // namespace headlens
