// headlens/tasks: a small made-up world, so that tiny models can be taught retrieval and knowledge.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

class Tokenizer;

/// A relation of the world ("colour") and the words that can stand on its right side.
struct WorldRelation {
  std::string name;                 ///< "colour"
  std::vector<std::string> values;  ///< one word each
};

/// 48 made-up names, 5 relations and one value for each pair of them. There is one world; it never
/// changes, as the bundled models know its facts by heart.
struct World {
  std::vector<std::string> entities;     ///< "Belora", ..
  std::vector<WorldRelation> relations;  ///< colour and four more
  std::vector<std::vector<int64_t>>
      facts;  ///< [entity][relation]: index into the relation's values
};

/// The one world.
const World& made_up_world();

/// Knowledge: "The colour of Belora is", choices " value" of all values of the relation. No
/// segments.
std::vector<Example> make_world_facts(int64_t n, uint64_t seed);

/// Knowledge asked by letter: "What is the colour of Belora?\nA. value\n...Answer:", options 2 ..
/// 8; spans as in make_multiple_choice.
std::vector<Example> make_world_choice(int64_t options, int64_t n, uint64_t seed);

/// One line of training text.
struct WorldLine {
  std::string text;               ///< ends with a newline
  std::vector<ByteSpan> answers;  ///< what is to be predicted rather than guessed: "17", "B", "red"
};

/// A line as ids, with the weight that predicting each of them has in the loss.
struct WeightedLine {
  std::vector<int64_t> ids;    ///< token ids
  std::vector<float> weights;  ///< [pos], of ids[pos] given what is before it; 0 for the first
};

/// How training lines are mixed. The first six are relative frequencies.
struct WorldMix {
  double kv = 1;            ///< dictionaries, several queries each
  double relists = 0;       ///< dictionaries, then the same pairs in another order
  double copies = 0;        ///< words and ":17"s in a row, then the same row again
  double letters = 1;       ///< letter retrieval, as in the mcq task
  double facts = 1;         ///< knowledge completion
  double fact_letters = 1;  ///< knowledge by letter
  int64_t min_pairs = 2;    ///< dictionary sizes, both ends included
  int64_t max_pairs = 20;   ///< upper end
  int64_t queries = 8;      ///< queries after one dictionary, each for any of its keys
  int64_t questions = 1;    ///< questions or facts in one line of the other kinds
  int64_t words = 256;      ///< keys are among the first so many of the word list
  int64_t values = 100;     ///< values are below it
  int64_t min_options = 2;  ///< letters of a question, both ends included
  int64_t max_options = 4;  ///< upper end
  float other_weight = 0;   ///< loss weight of the tokens that are no answer
};

/// An endless stream of training lines; the same seed and the same calls give the same lines.
class WorldSampler {
 public:
  /// Starts the stream of this seed.
  explicit WorldSampler(uint64_t seed);
  ~WorldSampler();
  WorldSampler(WorldSampler&&) noexcept;
  WorldSampler& operator=(WorldSampler&&) noexcept;

  /// The next line. It begins as the prompt of the task it trains and ends with a newline. Throws
  /// UsageError for a mix that cannot be drawn from.
  WorldLine next(const WorldMix& mix);
  /// The next line as ids, closed by "<eos>" (weight: other_weight). UsageError if `tokenizer` is
  /// not the world's.
  WeightedLine next(const WorldMix& mix, const Tokenizer& tokenizer);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Every token the world's tokenizer knows, id by id: "<unk>", "<eos>", "\n", punctuation, letters,
/// words, ...
std::vector<std::string> world_vocabulary();

/// Writes `dir`/tokenizer.json (one token a word, ":17", "A." or sign) and
/// `dir`/tokenizer_config.json. Throws Error if a file cannot be written.
void write_world_tokenizer(const std::filesystem::path& dir);

}  // namespace headlens
