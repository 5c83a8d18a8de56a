// headlens/tasks: the made-up world, and questions about it.
#include "headlens/tasks/world.h"

#include "core/check.h"
#include "tasks/prompts.h"
#include "tasks/world_texts.h"

namespace headlens {
namespace {

constexpr uint64_t kWorldSeed = 20250418;  // the bundled models know this world; never change it

std::vector<std::string> entity_names() {
  return {"Abelon",  "Arvika", "Belora", "Bramun",  "Caldio", "Cevara", "Dalmin", "Dorvex",
          "Elunda",  "Esprin", "Falora", "Fendrik", "Galimo", "Gorash", "Helvan", "Hudrin",
          "Ilvasa",  "Ixelor", "Jandor", "Jovira",  "Kelmar", "Kuvano", "Larvik", "Lomera",
          "Malvin",  "Mirtok", "Nalora", "Nudrak",  "Oldira", "Orvane", "Pelmos", "Pravik",
          "Quandel", "Quorin", "Relvar", "Rumeko",  "Salvor", "Sindra", "Talvik", "Tromel",
          "Ulvera",  "Urdano", "Valmor", "Vexira",  "Wendal", "Wirako", "Yalvin", "Zendor"};
}

std::vector<WorldRelation> relations() {
  return {
      {"colour",
       {"red", "blue", "green", "yellow", "purple", "orange", "black", "white", "brown", "pink",
        "gray", "gold"}},
      {"home",
       {"forest", "desert", "island", "valley", "mountain", "harbor", "village", "castle", "swamp",
        "cave", "meadow", "tundra"}},
      {"food",
       {"bread", "cheese", "rice", "soup", "honey", "fish", "beans", "pasta", "apples", "carrots",
        "mushrooms", "nuts"}},
      {"craft",
       {"painting", "weaving", "baking", "fishing", "sailing", "hunting", "singing", "dancing",
        "pottery", "carving", "farming", "mining"}},
      {"pet",
       {"dog", "cat", "rabbit", "parrot", "turtle", "hamster", "lizard", "pony", "goose", "snake",
        "frog", "mouse"}},
  };
}

/// Each value of a relation holds for equally many entities, so that guessing the commonest gains
/// nothing.
World make_world() {
  World world{entity_names(), relations(), {}};
  const int64_t entities = std::ssize(world.entities);
  world.facts.assign(world.entities.size(), {});
  Draw draw(kWorldSeed);
  for (const WorldRelation& relation : world.relations) {
    const std::vector<int64_t> order = draw.sample(entities, entities);
    for (size_t e = 0; e < order.size(); ++e) {
      world.facts[e].push_back(order[e] % std::ssize(relation.values));
    }
  }
  return world;
}

/// All facts in random order.
std::vector<WorldFact> shuffled_facts(Draw& draw) {
  const World& world = made_up_world();
  const int64_t relations = std::ssize(world.relations);
  const int64_t count = std::ssize(world.entities) * relations;
  std::vector<WorldFact> facts;
  for (const int64_t i : draw.sample(count, count)) facts.push_back({i / relations, i % relations});
  return facts;
}

}  // namespace

const World& made_up_world() {
  static const World world = make_world();
  return world;
}

std::vector<Example> make_world_facts(int64_t n, uint64_t seed) {
  Draw draw(seed);
  const std::vector<WorldFact> facts = shuffled_facts(draw);
  HEADLENS_CHECK(UsageError, n > 0 && n <= std::ssize(facts),
                 "[task] world-facts: n, expected 1 to {}, got {}", facts.size(), n);
  std::vector<Example> examples;
  for (int64_t i = 0; i < n; ++i) {
    const WorldFact& fact = facts[static_cast<size_t>(i)];
    Example example;
    example.prompt = fact_text(fact);
    for (const std::string& value : fact_values(fact)) example.choices.push_back(" " + value);
    example.answer = fact_answer(fact);
    example.source = fmt::format("world-facts example {}", i + 1);
    examples.push_back(std::move(example));
  }
  return examples;
}

std::vector<Example> make_world_choice(int64_t options, int64_t n, uint64_t seed) {
  HEADLENS_CHECK(UsageError, options >= 2 && options <= kMaxLetters,
                 "[task] world-mcq: options, expected 2 to {}, got {}", kMaxLetters, options);
  HEADLENS_CHECK(UsageError, n > 0, "[task] world-mcq: n, expected at least 1, got {}", n);
  Draw draw(seed);
  const std::vector<WorldFact> facts = shuffled_facts(draw);
  std::vector<Example> examples;
  for (int64_t i = 0; i < n; ++i) {
    const WorldFact& fact = facts[static_cast<size_t>(i) % facts.size()];
    const LetterQuestion question = draw_fact_options(fact, options, draw);
    PromptText prompt = letters_text(fact_question_text(fact), question.options);
    Example example;
    example.prompt = std::move(prompt.text);
    example.choices = letter_choices(options);
    example.answer = question.answer;
    example.spans = std::move(prompt.spans);
    example.source = fmt::format("world-mcq example {}", i + 1);
    examples.push_back(std::move(example));
  }
  return examples;
}

}  // namespace headlens
