// headlens/model: text that a model writes after prompts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "headlens/core/kept_steps.h"
#include "headlens/model/language_model.h"
#include "headlens/model/site.h"
#include "headlens/model/tokenizer.h"

namespace headlens {

/// How text is chosen, and when it ends.
struct GenerateOptions {
  int64_t max_new_tokens = 64;  ///< at least 1
  double temperature = 0;       ///< 0: the likeliest token; else logits are divided by it
  /// Draw among the fewest tokens, likeliest first, that have at least this share of the
  /// probability at this temperature; above 0, at most 1.
  double top_p = 1;
  /// Each draw depends on this, on the prompt's number and on the step alone: how prompts are
  /// batched can change a token only where it moves a logit, by rounding, across a draw or a tie.
  uint64_t seed = 0;
  int64_t first_number = 0;  ///< the first prompt's number; of parts of a list, where each begins
  std::vector<std::string> stops = {};    ///< a text ends before the first of these to be complete
  std::vector<int64_t> stop_tokens = {};  ///< besides the model's end tokens
  bool ignore_end_tokens = false;         ///< go on after config().eos_token_ids
  int64_t max_batch_tokens = 16384;       ///< rows x (longest prompt + max_new_tokens) at once
  Tap* tap = nullptr;                     ///< visited in every forward, of prompts and of steps
  /// Called before each batch with the prompts that its rows are, by index into the list.
  std::function<void(const std::vector<int64_t>& rows)> on_batch = {};
  std::function<void(int64_t done, int64_t total)> progress =
      {};                ///< in prompts; may throw to stop
  KeptSteps steps = {};  ///< a batch of texts is a step; a tap does not see those that were kept
};

/// Why a text ended.
enum class EndReason {
  Length,      ///< max_new_tokens are there
  EndToken,    ///< one of the model's own
  StopToken,   ///< one of `stop_tokens`
  StopString,  ///< one of `stops`
};
/// "length", "end_token", "stop_token", "stop_string".
const char* end_reason_name(EndReason reason);

/// What a model wrote after one prompt.
struct Generation {
  std::vector<int64_t> tokens;  ///< all that were chosen, those of the stop included
  std::vector<double>
      logprobs;  ///< [token] ln p by the model itself, nats: before temperature, top_p
  /// The tokens' text as it goes on after the prompt, special tokens written out; without the end
  /// or stop token, and cut where the stop string begins. Empty without a tokenizer.
  std::string text;
  EndReason end = EndReason::Length;  ///< why it ended
  std::string stop;                   ///< the stop string that ended it
};

/// Goes on after each prompt (token ids), in batches of like length padded on the left; a row's
/// numbers are those of the row alone. Steps are a Decoder's; with a tap they are the model's own
/// forward on its state, and every site fires for each. Models whose rotary positions depend on the
/// length of the text run the whole text for each step. The tap of a batch sees positions before a
/// row's text as padding (ForwardOptions::first), and rows that have ended until all have; the
/// token chosen last is not fed. UsageError for options out of range or stop strings without a
/// tokenizer, ShapeError for an empty prompt, ids out of range or more positions than the model
/// learned, Error for logits that are NaN.
std::vector<Generation> generate(const LanguageModel& model,
                                 const std::vector<std::vector<int64_t>>& prompts,
                                 const GenerateOptions& options = {});
/// The same with texts and stop strings.
std::vector<Generation> generate(const LanguageModel& model, const Tokenizer& tokenizer,
                                 const std::vector<std::vector<int64_t>>& prompts,
                                 const GenerateOptions& options = {});
/// The same from texts; `bos` as in `Tokenizer::encode`'s add_special_tokens.
std::vector<Generation> generate(const LanguageModel& model, const Tokenizer& tokenizer,
                                 const std::vector<std::string>& prompts,
                                 const GenerateOptions& options = {}, bool bos = false);

}  // namespace headlens
