// headlens/model: the pre-tokenizers of tokenizer.json, which cut a text into words.
#include "model/tokenizer_pretokenize.h"

#include <utility>

#include "model/tokenizer_parts.h"
#include "model/tokenizer_pattern.h"
#include "model/tokenizer_regex.h"
#include "model/tokenizer_split.h"
#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

/// GPT-2's words (the expression of its published encoder).
constexpr char kGpt2Words[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
/// Runs of word characters and runs of the rest, in PCRE2's syntax.
constexpr char kWordRuns[] =
    R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}]+|)"
    R"([^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}\p{White_Space}]+)";

/// Replaces the text by what append(out, word, at_start) writes for each word.
template <typename Append>
void rewrite(Words& words, Append append) {
  std::string out;
  out.reserve(words.text.size() + words.text.size() / 4 + 16);
  words.at_start = words.at_start && !words.spans.empty() && words.spans[0].begin == 0;
  bool at_start = words.at_start;
  for (Span& span : words.spans) {
    const size_t begin = out.size();
    append(out, words.view(span), at_start);
    span = {begin, out.size()};
    at_start = false;
  }
  words.text = std::move(out);
}

/// Cuts every word into pieces by cut(word, pieces) and treats the matches as `behavior` says.
template <typename Cut>
void split(Words& words, SplitBehavior behavior, Cut cut) {
  std::vector<Span> spans;
  spans.reserve(words.text.size() / 4 + words.spans.size());
  std::vector<Piece> pieces;
  for (const Span& span : words.spans) {
    pieces.clear();
    cut(words.view(span), pieces);
    append_split(pieces, behavior, span.begin, spans);
  }
  words.spans = std::move(spans);
}

class RegexSplit : public PreTokenizer {
 public:
  RegexSplit(TokenRegex pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void apply(Words& words) const override {
    split(words, behavior_, [&](std::string_view word, std::vector<Piece>& pieces) {
      pattern_.cut(word, pieces);
      for (Piece& piece : pieces) piece.match = piece.match != invert_;
    });
  }

 private:
  TokenRegex pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

/// Splits at single characters of a class.
class CharSplit : public PreTokenizer {
 public:
  using Class = bool (*)(uint32_t code_point);
  CharSplit(Class is_in, SplitBehavior behavior) : is_in_(is_in), behavior_(behavior) {}

  void apply(Words& words) const override {
    split(words, behavior_, [&](std::string_view word, std::vector<Piece>& pieces) {
      size_t done = 0;
      for (size_t i = 0; i < word.size();) {
        const size_t start = i;
        if (!is_in_(next_code_point(word, i))) continue;
        if (done < start) pieces.push_back({done, start, false});
        pieces.push_back({start, i, true});
        done = i;
      }
      if (done < word.size()) pieces.push_back({done, word.size(), false});
    });
  }

 private:
  Class is_in_;
  SplitBehavior behavior_;
};

/// GPT-2's: words, then every byte as a printable character.
class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex, const std::string& where)
      : add_prefix_space_(add_prefix_space) {
    if (use_regex) {
      words_.emplace(TokenRegex(kGpt2Words, where), SplitBehavior::Isolated, /*invert=*/false);
    }
  }

  void apply(Words& words) const override {
    if (add_prefix_space_) {
      rewrite(words, [](std::string& out, std::string_view word, bool) {
        if (!word.starts_with(' ')) out += ' ';
        out += word;
      });
    }
    if (words_) words_->apply(words);
    rewrite(words, [](std::string& out, std::string_view word, bool) {
      for (const char byte : word) out += byte_to_printable(static_cast<uint8_t>(byte));
    });
  }

 private:
  bool add_prefix_space_;
  std::optional<RegexSplit> words_;
};

/// SentencePiece's: spaces become a visible mark, and a word begins with its mark.
class Metaspace : public PreTokenizer {
 public:
  enum class Prepend { Always, First, Never };
  Metaspace(std::string mark, Prepend prepend, bool cut, const std::string& where)
      : mark_(std::move(mark)), prepend_(prepend) {
    if (cut) {
      marks_.emplace(TokenRegex::from_literal(mark_, where), SplitBehavior::MergedWithNext,
                     /*invert=*/false);
    }
  }

  void apply(Words& words) const override {
    rewrite(words, [&](std::string& out, std::string_view word, bool at_start) {
      const bool wanted = prepend_ == Prepend::Always || (prepend_ == Prepend::First && at_start);
      if (wanted && !word.starts_with(' ') && !word.starts_with(mark_)) out += mark_;
      for (const char byte : word) {
        if (byte == ' ') {
          out += mark_;
        } else {
          out += byte;
        }
      }
    });
    if (marks_) marks_->apply(words);
  }

 private:
  std::string mark_;
  Prepend prepend_;
  std::optional<RegexSplit> marks_;
};

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<const PreTokenizer>> parts)
      : parts_(std::move(parts)) {}
  void apply(Words& words) const override {
    for (const auto& part : parts_) {
      part->apply(words);
      check_grown(words.text.size(), words.most);
    }
  }

 private:
  std::vector<std::unique_ptr<const PreTokenizer>> parts_;
};

using Parts = std::vector<std::unique_ptr<const PreTokenizer>>;

std::unique_ptr<const PreTokenizer> read_sequence(const PartSpec& spec) {
  Parts parts;
  spec.for_each("pretokenizers", [&](const nlohmann::json& item, const std::string& where) {
    if (auto part = read_pre_tokenizer(item, where)) parts.push_back(std::move(part));
  });
  return std::make_unique<PreTokenizerSequence>(std::move(parts));
}

std::unique_ptr<const PreTokenizer> read_byte_level(const PartSpec& spec) {
  spec.fields.ignore({"trim_offsets"});  // about offsets, which are not given out
  return std::make_unique<ByteLevel>(spec.fields.required<bool>("add_prefix_space"),
                                     spec.fields.optional<bool>("use_regex", true), spec.where());
}

std::unique_ptr<const PreTokenizer> read_metaspace(const PartSpec& spec) {
  const JsonFields& fields = spec.fields;
  fields.ignore({"str_rep"});
  auto scheme = fields.optional<std::string>("prepend_scheme", "always");
  if (!fields.optional<bool>("add_prefix_space", true)) {  // the older name
    HEADLENS_CHECK(ConfigError, !fields.has("prepend_scheme") || scheme == "never",
                   "[{}] key 'add_prefix_space', expected to agree with prepend_scheme \"{}\", "
                   "got false",
                   spec.where(), scheme);
    scheme = "never";
  }
  HEADLENS_CHECK(ConfigError, scheme == "always" || scheme == "first" || scheme == "never",
                 "[{}] key 'prepend_scheme', expected always, first or never, got \"{}\"",
                 spec.where(), scheme);
  const auto prepend = scheme == "always"  ? Metaspace::Prepend::Always
                       : scheme == "first" ? Metaspace::Prepend::First
                                           : Metaspace::Prepend::Never;
  return std::make_unique<Metaspace>(read_one_char(fields, "replacement"), prepend,
                                     fields.optional<bool>("split", true), spec.where());
}

std::unique_ptr<const PreTokenizer> read_bert(const PartSpec&) {
  Parts parts;
  parts.push_back(std::make_unique<CharSplit>(&is_space, SplitBehavior::Removed));
  parts.push_back(std::make_unique<CharSplit>(&is_punctuation, SplitBehavior::Isolated));
  return std::make_unique<PreTokenizerSequence>(std::move(parts));
}

std::unique_ptr<const PreTokenizer> make_pre_tokenizer(const PartSpec& spec) {
  const std::string& type = spec.type;
  const JsonFields& fields = spec.fields;
  if (type == "Sequence") return read_sequence(spec);
  if (type == "ByteLevel") return read_byte_level(spec);
  if (type == "Metaspace") return read_metaspace(spec);
  if (type == "BertPreTokenizer") return read_bert(spec);
  if (type == "Split") {
    return std::make_unique<RegexSplit>(read_pattern(fields, spec.where()), read_behavior(fields),
                                        fields.optional<bool>("invert", false));
  }
  if (type == "CharDelimiterSplit") {
    auto pattern = TokenRegex::from_literal(read_one_char(fields, "delimiter"), spec.where());
    return std::make_unique<RegexSplit>(std::move(pattern), SplitBehavior::Removed,
                                        /*invert=*/false);
  }
  if (type == "Whitespace") {
    return std::make_unique<RegexSplit>(TokenRegex::from_pcre2(kWordRuns, spec.where()),
                                        SplitBehavior::Removed, /*invert=*/true);
  }
  if (type == "WhitespaceSplit") {
    return std::make_unique<CharSplit>(&is_space, SplitBehavior::Removed);
  }
  if (type == "Punctuation") {
    const auto behavior = fields.has("behavior") ? read_behavior(fields) : SplitBehavior::Isolated;
    return std::make_unique<CharSplit>(&is_punctuation, behavior);
  }
  if (type == "Digits") {
    const bool alone = fields.required<bool>("individual_digits");
    return std::make_unique<CharSplit>(&is_numeric,
                                       alone ? SplitBehavior::Isolated : SplitBehavior::Contiguous);
  }
  spec.refuse(
      "ByteLevel, Split, Whitespace, WhitespaceSplit, Punctuation, Digits, Metaspace, "
      "CharDelimiterSplit, BertPreTokenizer, Sequence");
}

}  // namespace

std::unique_ptr<const PreTokenizer> read_pre_tokenizer(const nlohmann::json& spec,
                                                       const std::string& where) {
  if (spec.is_null()) return nullptr;
  const PartSpec part(spec, where);
  auto pre_tokenizer = make_pre_tokenizer(part);
  part.fields.check_all_read();
  return pre_tokenizer;
}

}  // namespace headlens
