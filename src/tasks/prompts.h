// headlens/tasks: prompt texts, written once for tasks and for training.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "headlens/tasks/types.h"
#include "tasks/draw.h"

namespace headlens {

/// A text under construction with the byte spans noted in it.
struct PromptText {
  std::string text;
  std::vector<ByteSpan> spans;
};

/// A dictionary of the kv task.
struct Dictionary {
  std::vector<std::string_view> keys;
  std::vector<std::string> values;
};

inline constexpr int64_t kDictionaryValues = 100;
/// `pairs` distinct words of the first `words` and distinct integers below `values`.
Dictionary draw_dictionary(int64_t pairs, Draw& draw, int64_t words, int64_t values);
/// Of all words and values.
Dictionary draw_dictionary(int64_t pairs, Draw& draw);

/// "Memorize the following dictionary:\nkey:value\n...": spans are the pairs.
PromptText dictionary_text(const Dictionary& dictionary);
/// "The value of the key 'key' is"
std::string dictionary_query(std::string_view key);

/// "question\nA. option\n...Answer:": spans are the option lines with their newlines.
PromptText letters_text(std::string_view question, const std::vector<std::string>& options);
inline constexpr int64_t kMaxLetters = 8;
/// "A", "B", ...
std::string letter(int64_t index);
/// " A", " B", ...
std::vector<std::string> letter_choices(int64_t count);

/// A question of letter retrieval: distinct words, one of them asked for.
struct LetterQuestion {
  std::vector<std::string> options;
  int64_t answer = 0;
};
LetterQuestion draw_letter_question(int64_t options, Draw& draw);
/// "Which option is word?"
std::string letter_question_text(std::string_view word);

}  // namespace headlens
