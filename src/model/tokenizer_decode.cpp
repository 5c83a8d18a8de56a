// headlens/model: the decoders of tokenizer.json, which turn tokens back into text.
#include "model/tokenizer_decode.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>
#include <utility>

#include "model/tokenizer_parts.h"
#include "model/tokenizer_pattern.h"
#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

using Tokens = std::vector<std::string>;

/// A decoder that is one function.
class FunctionDecoder : public TokenDecoder {
 public:
  explicit FunctionDecoder(std::function<void(Tokens&, size_t)> function)
      : function_(std::move(function)) {}
  void apply(Tokens& tokens, size_t most) const override {
    function_(tokens, most);
    check_grown(bytes_of(tokens), most);
  }

 private:
  std::function<void(Tokens&, size_t)> function_;
};

std::string join(const Tokens& tokens) {
  std::string out;
  for (const std::string& token : tokens) out += token;
  return out;
}

/// Printable characters back to bytes. A token with any other character stands for itself.
void decode_byte_level(Tokens& tokens) {
  std::string bytes, token_bytes;
  for (const std::string& token : tokens) {
    token_bytes.clear();
    for (size_t i = 0; i < token.size();) {
      const std::optional<uint8_t> byte = printable_to_byte(next_code_point(token, i));
      if (!byte) {
        token_bytes = token;
        break;
      }
      token_bytes += static_cast<char>(*byte);
    }
    bytes += token_bytes;
  }
  tokens = {repair_utf8(bytes)};
}

/// The byte that "<0xE2>" stands for.
std::optional<char> byte_of_token(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  uint8_t byte = 0;
  const char* digits = token.data() + 3;
  const auto [end, error] = std::from_chars(digits, digits + 2, byte, 16);
  if (error != std::errc() || end != digits + 2) return std::nullopt;
  return static_cast<char>(byte);
}

/// Runs of "<0xE2>" tokens become text; a run that is not UTF-8 gives one U+FFFD a byte.
void decode_byte_fallback(Tokens& tokens) {
  Tokens out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (!find_invalid_utf8(run)) {
      out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), "\xEF\xBF\xBD");
    }
    run.clear();
  };
  for (std::string& token : tokens) {
    if (const std::optional<char> byte = byte_of_token(token)) {
      run += *byte;
      continue;
    }
    flush();
    out.push_back(std::move(token));
  }
  flush();
  tokens = std::move(out);
}

/// Takes up to `start` and `stop` copies of `content` off the ends of a token.
std::string strip(std::string_view token, std::string_view content, size_t start, size_t stop) {
  for (size_t i = 0; i < start && token.starts_with(content); ++i) {
    token.remove_prefix(content.size());
  }
  for (size_t i = 0; i < stop && token.ends_with(content); ++i) token.remove_suffix(content.size());
  return std::string(token);
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  for (size_t i = text.find(from); i != std::string::npos; i = text.find(from, i + to.size())) {
    text.replace(i, from.size(), to);
  }
}

std::string replace(const std::string& token, const TokenRegex& pattern, const std::string& content,
                    size_t most) {
  if (token.empty()) return token;
  std::vector<Piece> pieces;
  pattern.cut(token, pieces);
  std::string out;
  for (const Piece& piece : pieces) {
    out += piece.match ? content : token.substr(piece.begin, piece.end - piece.begin);
    check_grown(out.size(), most);
  }
  return out;
}

using Decoder = std::unique_ptr<const TokenDecoder>;

Decoder make_limited(std::function<void(Tokens&, size_t)> function) {
  return std::make_unique<FunctionDecoder>(std::move(function));
}

Decoder make(std::function<void(Tokens&)> function) {
  return make_limited(
      [function = std::move(function)](Tokens& tokens, size_t) { function(tokens); });
}

/// Applies f(token, index) to every token.
template <typename F>
Decoder make_each(F f) {
  return make([f = std::move(f)](Tokens& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = f(tokens[i], i);
  });
}

Decoder read_sequence(const PartSpec& spec) {
  auto parts = std::make_shared<std::vector<Decoder>>();
  spec.for_each("decoders", [&](const nlohmann::json& item, const std::string& where) {
    if (auto part = read_decoder(item, where)) parts->push_back(std::move(part));
  });
  return make_limited([parts](Tokens& tokens, size_t most) {
    for (const Decoder& part : *parts) part->apply(tokens, most);
  });
}

Decoder read_strip(const PartSpec& spec) {
  return make_each([content = read_one_char(spec.fields, "content"),
                    start = spec.fields.required<size_t>("start"),
                    stop = spec.fields.required<size_t>("stop")](const std::string& token, size_t) {
    return strip(token, content, start, stop);
  });
}

Decoder read_replace(const PartSpec& spec) {
  return make_limited(
      [pattern = read_pattern(spec.fields, spec.where()),
       content = spec.fields.required<std::string>("content")](Tokens& tokens, size_t most) {
        for (std::string& token : tokens) {
          token = replace(token, pattern, content, most);
          check_grown(token.size(), most);
          most -= token.size();
        }
      });
}

/// The mark becomes a space, and vanishes from the first token if encoding put it there.
Decoder read_metaspace(const PartSpec& spec) {
  const JsonFields& fields = spec.fields;
  fields.ignore({"str_rep", "split"});
  const auto scheme = fields.optional<std::string>("prepend_scheme", "always");
  const bool prepended = fields.optional<bool>("add_prefix_space", true) && scheme != "never";
  return make_each(
      [mark = read_one_char(fields, "replacement"), prepended](std::string token, size_t index) {
        replace_all(token, mark, index == 0 && prepended ? "" : " ");
        return token;
      });
}

Decoder make_decoder(const PartSpec& spec) {
  const std::string& type = spec.type;
  if (type == "Sequence") return read_sequence(spec);
  if (type == "ByteLevel") {
    spec.fields.ignore({"add_prefix_space", "trim_offsets", "use_regex"});
    return make(&decode_byte_level);
  }
  if (type == "ByteFallback") return make(&decode_byte_fallback);
  if (type == "Fuse") return make([](Tokens& tokens) { tokens = {join(tokens)}; });
  if (type == "Strip") return read_strip(spec);
  if (type == "Replace") return read_replace(spec);
  if (type == "Metaspace") return read_metaspace(spec);
  if (type == "BPEDecoder") {  // the suffix marks the end of a word
    return make([suffix = spec.fields.required<std::string>("suffix")](Tokens& tokens) {
      for (size_t i = 0; i < tokens.size(); ++i) {
        replace_all(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ");
      }
    });
  }
  spec.refuse("ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, BPEDecoder, Sequence");
}

}  // namespace

size_t bytes_of(const std::vector<std::string>& tokens) {
  size_t size = 0;
  for (const std::string& token : tokens) size += token.size();
  return size;
}

std::unique_ptr<const TokenDecoder> read_decoder(const nlohmann::json& spec,
                                                 const std::string& where) {
  if (spec.is_null()) return nullptr;
  const PartSpec part(spec, where);
  auto decoder = make_decoder(part);
  part.fields.check_all_read();
  return decoder;
}

}  // namespace headlens
