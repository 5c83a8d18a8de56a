// headlens/tasks: training lines from the made-up world.
#include <algorithm>
#include <array>
#include <cctype>

#include "core/check.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/world.h"
#include "tasks/word_list.h"
#include "tasks/world_texts.h"

namespace headlens {
namespace {

/// Puts answers into a line and remembers where they are.
class LineWriter {
 public:
  LineWriter& say(std::string_view text) {
    line_.text += text;
    return *this;
  }
  LineWriter& answer(std::string_view before, std::string_view text, std::string_view after) {
    line_.text += before;
    const size_t begin = line_.text.size();
    line_.text += text;
    line_.answers.push_back({begin, line_.text.size()});
    line_.text += after;
    return *this;
  }
  WorldLine finish() { return std::move(line_); }

 private:
  WorldLine line_;
};

WorldLine kv_line(const WorldMix& mix, Draw& draw) {
  const int64_t pairs = draw.between(mix.min_pairs, mix.max_pairs);
  const Dictionary dictionary = draw_dictionary(pairs, draw, mix.words, mix.values);
  LineWriter line;
  line.say(dictionary_text(dictionary).text);
  for (int64_t i = 0; i < mix.queries; ++i) {
    const size_t pair = static_cast<size_t>(draw.below(pairs));
    line.say(dictionary_query(dictionary.keys[pair])).answer(" ", dictionary.values[pair], "\n");
  }
  return line.finish();
}

WorldLine relist_line(const WorldMix& mix, Draw& draw) {
  const int64_t pairs = draw.between(mix.min_pairs, mix.max_pairs);
  const Dictionary dictionary = draw_dictionary(pairs, draw, mix.words, mix.values);
  LineWriter line;
  line.say(dictionary_text(dictionary).text);
  for (const int64_t i : draw.sample(pairs, pairs)) {
    const size_t pair = static_cast<size_t>(i);
    line.say(dictionary.keys[pair]).answer("", ":" + dictionary.values[pair], "\n");
  }
  return line.finish();
}

/// Tokens that say nothing about each other, twice: right is what came after a token's first time.
WorldLine copy_line(const WorldMix& mix, Draw& draw) {
  constexpr int64_t kShortest = 4, kLongest = 14;
  const auto words = word_list();
  std::vector<std::string> row;
  for (const int64_t i : draw.sample(draw.between(kShortest, kLongest), mix.words + mix.values)) {
    row.push_back(i < mix.words ? std::string(words[static_cast<size_t>(i)])
                                : ":" + std::to_string(i - mix.words));
  }
  LineWriter line;
  for (const std::string& token : row) line.say(token).say(" ");
  line.say("\n").say(row.front());
  for (size_t i = 1; i < row.size(); ++i) line.answer(" ", row[i], "");
  return line.say("\n").finish();
}

WorldLine letters_line(const WorldMix& mix, Draw& draw) {
  LineWriter line;
  for (int64_t i = 0; i < mix.questions; ++i) {
    const auto question =
        draw_letter_question(draw.between(mix.min_options, mix.max_options), draw);
    const std::string& word = question.options[static_cast<size_t>(question.answer)];
    line.say(letters_text(letter_question_text(word), question.options).text);
    line.answer(" ", letter(question.answer), "\n");
  }
  return line.finish();
}

WorldFact draw_fact(Draw& draw) {
  const World& world = made_up_world();
  const int64_t entity = draw.below(std::ssize(world.entities));
  return {entity, draw.below(std::ssize(world.relations))};
}

WorldLine fact_line(const WorldMix& mix, Draw& draw) {
  LineWriter line;
  for (int64_t i = 0; i < mix.questions; ++i) {
    const WorldFact fact = draw_fact(draw);
    const std::string& value = fact_values(fact)[static_cast<size_t>(fact_answer(fact))];
    line.say(fact_text(fact)).answer(" ", value, "\n");
  }
  return line.finish();
}

WorldLine fact_letters_line(const WorldMix& mix, Draw& draw) {
  LineWriter line;
  for (int64_t i = 0; i < mix.questions; ++i) {
    const WorldFact fact = draw_fact(draw);
    const int64_t options = draw.between(mix.min_options, mix.max_options);
    const LetterQuestion question = draw_fact_options(fact, options, draw);
    line.say(letters_text(fact_question_text(fact), question.options).text);
    line.answer(" ", letter(question.answer), "\n");
  }
  return line.finish();
}

void check_mix(const WorldMix& mix) {
  const double total =
      mix.kv + mix.relists + mix.copies + mix.letters + mix.facts + mix.fact_letters;
  const double least =
      std::min({mix.kv, mix.relists, mix.copies, mix.letters, mix.facts, mix.fact_letters});
  HEADLENS_CHECK(
      UsageError, least >= 0 && total > 0 && std::isfinite(total),
      "[world] frequencies, expected none negative and a positive sum, got {} {} {} {} {} {}",
      mix.kv, mix.relists, mix.copies, mix.letters, mix.facts, mix.fact_letters);
  HEADLENS_CHECK(UsageError,
                 mix.max_pairs <= mix.words && mix.words <= std::ssize(word_list()) &&
                     mix.max_pairs <= mix.values && mix.values <= kDictionaryValues,
                 "[world] words and values, expected {} to {} and {}, got {} and {}", mix.max_pairs,
                 std::ssize(word_list()), kDictionaryValues, mix.words, mix.values);
  HEADLENS_CHECK(UsageError, mix.questions >= 1, "[world] questions, expected at least 1, got {}",
                 mix.questions);
  HEADLENS_CHECK(UsageError,
                 1 <= mix.min_pairs && mix.min_pairs <= mix.max_pairs &&
                     mix.max_pairs <= kDictionaryValues && mix.queries >= 1,
                 "[world] pairs, expected 1 <= min <= max <= {} and a query, got {} to {}, {}",
                 kDictionaryValues, mix.min_pairs, mix.max_pairs, mix.queries);
  HEADLENS_CHECK(
      UsageError,
      2 <= mix.min_options && mix.min_options <= mix.max_options && mix.max_options <= kMaxLetters,
      "[world] options, expected 2 <= min <= max <= {}, got {} to {}", kMaxLetters, mix.min_options,
      mix.max_options);
}

/// The world's tokenizer, without its tokenizer.json: words, signs and newlines by their place in
/// the vocabulary.
class WorldVocabulary {
 public:
  WorldVocabulary() : words_(world_vocabulary()) {
    for (const std::string& word : words_) ids_.emplace(word, std::ssize(ids_));
  }

  int64_t id(std::string_view word) const {
    const auto it = ids_.find(word);
    HEADLENS_CHECK(TaskError, it != ids_.end(), "[world] word '{}', expected a known one", word);
    return it->second;
  }

  void check_same(const Tokenizer& tokenizer) const {
    bool same = tokenizer.vocab_size() == std::ssize(words_);
    for (size_t i = 0; same && i < words_.size(); ++i) {
      same = tokenizer.token_to_id(words_[i]) == static_cast<int64_t>(i);
    }
    HEADLENS_CHECK(UsageError, same, "[world] tokenizer, expected the world's own, got another");
  }

  WeightedLine encode(const WorldLine& line, float other_weight) const {
    const std::string_view text = line.text;
    WeightedLine out;
    auto answer = line.answers.begin();
    for (size_t at = 0; at < text.size();) {
      const size_t size = token_size(text, at);
      if (size > 0) {
        while (answer != line.answers.end() && answer->end <= at) ++answer;
        const bool answers = answer != line.answers.end() && answer->begin <= at;
        out.ids.push_back(id(text.substr(at, size)));
        out.weights.push_back(answers ? 1.0F : other_weight);
      }
      at += std::max<size_t>(size, 1);
    }
    out.ids.push_back(id("<eos>"));
    out.weights.push_back(other_weight);
    out.weights.front() = 0;  // nothing comes before it
    return out;
  }

 private:
  /// Bytes of the token at `at`; 0 for a space. As the tokenizer's pattern: "key", ":17", "A.",
  /// "?".
  static size_t token_size(std::string_view text, size_t at) {
    const auto is_word = [&](size_t i) {
      return i < text.size() && std::isalnum(static_cast<unsigned char>(text[i])) != 0;
    };
    if (text[at] == ' ') return 0;
    size_t end = text[at] == ':' ? at + 1 : at;
    if (!is_word(end)) return 1;
    while (is_word(end)) ++end;
    if (end < text.size() && text[end] == '.') ++end;
    return end - at;
  }

  std::vector<std::string> words_;
  std::map<std::string, int64_t, std::less<>> ids_;
};

}  // namespace

struct WorldSampler::Impl {
  Draw draw;
  WorldVocabulary vocabulary;
  bool tokenizer_checked = false;
};

WorldSampler::WorldSampler(uint64_t seed) : impl_(new Impl{Draw(seed), {}, false}) {}
WorldSampler::~WorldSampler() = default;
WorldSampler::WorldSampler(WorldSampler&&) noexcept = default;
WorldSampler& WorldSampler::operator=(WorldSampler&&) noexcept = default;

WorldLine WorldSampler::next(const WorldMix& mix) {
  using Maker = WorldLine (*)(const WorldMix&, Draw&);
  check_mix(mix);
  const std::array<std::pair<double, Maker>, 6> kinds = {{{mix.kv, kv_line},
                                                          {mix.relists, relist_line},
                                                          {mix.copies, copy_line},
                                                          {mix.letters, letters_line},
                                                          {mix.facts, fact_line},
                                                          {mix.fact_letters, fact_letters_line}}};
  double total = 0;
  for (const auto& [frequency, maker] : kinds) total += frequency;
  double point = impl_->draw.unit() * total;
  Maker chosen = nullptr;
  for (const auto& [frequency, maker] : kinds) {
    if (frequency <= 0) continue;
    chosen = maker;  // stands if rounding carries the point past the last one
    if (point < frequency) break;
    point -= frequency;
  }
  return chosen(mix, impl_->draw);
}

WeightedLine WorldSampler::next(const WorldMix& mix, const Tokenizer& tokenizer) {
  if (!impl_->tokenizer_checked) impl_->vocabulary.check_same(tokenizer);
  impl_->tokenizer_checked = true;
  return impl_->vocabulary.encode(next(mix), mix.other_weight);
}

}  // namespace headlens
