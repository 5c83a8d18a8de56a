// headlens/model: the normalizers of tokenizer.json, which rewrite a text before it is cut.
#include "model/tokenizer_normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "model/tokenizer_parts.h"
#include "model/tokenizer_pattern.h"
#include "model/tokenizer_unicode.h"
#include "model/tokenizer_unicode_age.h"

namespace headlens {
namespace {

bool is_ascii(char c) {
  return static_cast<unsigned char>(c) < 0x80;
}
bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return is_ascii(c); });
}

/// A character the reference knows nothing about: it neither changes nor moves, and parts what is
/// beside it.
bool stays(uint32_t c) {
  return c >= 0x300 && (is_late_decomposition(c) || (is_mark(c) && is_late_mark(c)));
}

/// NFC, NFD, NFKC or NFKD (Unicode Annex 15).
class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(int options) : options_(options | UTF8PROC_STABLE) {}

  void apply(NormalText& normal) const override {
    if (is_ascii(normal.text)) return;
    const std::string text = std::move(normal.text);
    normal.text.clear();
    size_t done = 0;
    for (size_t i = 0; i < text.size();) {
      if (is_ascii(text[i])) {
        ++i;
        continue;
      }
      // ASCII never changes, but may compose with what follows it.
      const size_t begin = i > done ? i - 1 : i;
      normal.text.append(text, done, begin - done);
      size_t end = i;
      bool parted = false;
      while (end < text.size() && !is_ascii(text[end]) && !parted) {
        i = end;
        parted = stays(next_code_point(text, end));
      }
      if (!parted) i = end;
      append_form(std::string_view(text).substr(begin, i - begin), normal.text);
      normal.text.append(text, i, end - i);
      i = done = end;
    }
    normal.text.append(text, done);
  }

 private:
  void append_form(std::string_view text, std::string& out) const {
    utf8proc_uint8_t* mapped = nullptr;
    const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                     static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                     static_cast<utf8proc_option_t>(options_));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
    HEADLENS_CHECK(Error, length >= 0,
                   "[Tokenizer] Unicode normalization, expected success, got {}",
                   utf8proc_errmsg(length));
    out.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(length));
  }

  int options_;
};

/// Rewrites character by character.
class CharMap : public Normalizer {
 public:
  using Map = void (*)(uint32_t code_point, std::string& out);
  explicit CharMap(Map map) : map_(map) {}

  void apply(NormalText& text) const override {
    std::string out;
    out.reserve(text.text.size());
    for (size_t i = 0; i < text.text.size();) map_(next_code_point(text.text, i), out);
    text.text = std::move(out);
  }

 private:
  Map map_;
};

void lowercase(uint32_t c, std::string& out) {
  if (c == 0x130) {  // the one character whose full lower case is two
    out += "i\xCC\x87";
  } else {
    append_utf8(static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))), out);
  }
}

void strip_accent(uint32_t c, std::string& out) {
  const bool was_mark = c == 0x1CF2 || c == 0x1CF3;  // letters since Unicode 12
  if (was_mark || (is_mark(c) && !is_late_mark(c))) return;
  append_utf8(c, out);
}

void to_printable_bytes(uint32_t c, std::string& out) {
  std::string bytes;
  append_utf8(c, bytes);
  for (const char byte : bytes) out += byte_to_printable(static_cast<uint8_t>(byte));
}

class StripNormalizer : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}

  void apply(NormalText& normal) const override {
    const std::string& text = normal.text;
    size_t begin = 0, end = text.size();
    for (size_t i = 0; left_ && i < text.size() && is_space(next_code_point(text, i));) begin = i;
    while (right_ && end > begin) {
      size_t i = previous_code_point(text, end);
      const size_t start = i;
      if (!is_space(next_code_point(text, i))) break;
      end = start;
    }
    if (begin > 0) normal.at_start = false;
    normal.text = text.substr(begin, end - begin);
  }

 private:
  bool left_;
  bool right_;
};

class PrependNormalizer : public Normalizer {
 public:
  explicit PrependNormalizer(std::string text) : text_(std::move(text)) {}
  void apply(NormalText& normal) const override {
    if (!normal.text.empty()) normal.text.insert(0, text_);
  }

 private:
  std::string text_;
};

class ReplaceNormalizer : public Normalizer {
 public:
  ReplaceNormalizer(TokenRegex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void apply(NormalText& normal) const override {
    if (normal.text.empty()) return;
    std::vector<Piece> pieces;
    pattern_.cut(normal.text, pieces);
    if (pieces[0].match && pieces[0].end > 0 && content_.empty()) normal.at_start = false;
    std::string out;
    out.reserve(normal.text.size());
    for (const Piece& piece : pieces) {
      out += piece.match ? content_ : normal.text.substr(piece.begin, piece.end - piece.begin);
      check_grown(out.size(), normal.most);
    }
    normal.text = std::move(out);
  }

 private:
  TokenRegex pattern_;
  std::string content_;
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<const Normalizer>> parts)
      : parts_(std::move(parts)) {}
  void apply(NormalText& text) const override {
    for (const auto& part : parts_) {
      part->apply(text);
      check_grown(text.text.size(), text.most);
    }
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> parts_;
};

std::unique_ptr<const Normalizer> read_sequence(const PartSpec& spec) {
  std::vector<std::unique_ptr<const Normalizer>> parts;
  spec.for_each("normalizers", [&](const nlohmann::json& item, const std::string& where) {
    if (auto part = read_normalizer(item, where)) parts.push_back(std::move(part));
  });
  return std::make_unique<NormalizerSequence>(std::move(parts));
}

std::unique_ptr<const Normalizer> make_normalizer(const PartSpec& spec) {
  const std::string& type = spec.type;
  const JsonFields& fields = spec.fields;
  if (type == "Sequence") return read_sequence(spec);
  if (type == "NFC") return std::make_unique<UnicodeForm>(UTF8PROC_COMPOSE);
  if (type == "NFD") return std::make_unique<UnicodeForm>(UTF8PROC_DECOMPOSE);
  if (type == "NFKC") return std::make_unique<UnicodeForm>(UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
  if (type == "NFKD") return std::make_unique<UnicodeForm>(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  if (type == "Lowercase") return std::make_unique<CharMap>(&lowercase);
  if (type == "StripAccents") return std::make_unique<CharMap>(&strip_accent);
  if (type == "ByteLevel") return std::make_unique<CharMap>(&to_printable_bytes);
  if (type == "Strip") {
    return std::make_unique<StripNormalizer>(fields.required<bool>("strip_left"),
                                             fields.required<bool>("strip_right"));
  }
  if (type == "Prepend") {
    return std::make_unique<PrependNormalizer>(fields.required<std::string>("prepend"));
  }
  if (type == "Replace") {
    return std::make_unique<ReplaceNormalizer>(read_pattern(fields, spec.where()),
                                               fields.required<std::string>("content"));
  }
  spec.refuse(
      "NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace, ByteLevel, "
      "Sequence");
}

}  // namespace

std::unique_ptr<const Normalizer> read_normalizer(const nlohmann::json& spec,
                                                  const std::string& where) {
  if (spec.is_null()) return nullptr;
  const PartSpec part(spec, where);
  auto normalizer = make_normalizer(part);
  part.fields.check_all_read();
  return normalizer;
}

}  // namespace headlens
