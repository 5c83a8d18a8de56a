// headlens/model: byte-pair encoding of one word.
#include "model/tokenizer_bpe.h"

#include <bit>
#include <limits>
#include <queue>

#include "model/tokenizer_parts.h"
#include "model/tokenizer_unicode.h"

namespace headlens {
namespace {

constexpr size_t kLongestCachedWord = 256;  // bytes
constexpr size_t kLongestScan = 48;         // symbols; beyond it a heap is faster
constexpr uint32_t kNever = std::numeric_limits<uint32_t>::max();

/// One entry of "merges": "a b" or ["a", "b"].
std::pair<std::string, std::string> merge_pair(const nlohmann::json& entry, size_t index,
                                               const std::string& where) {
  if (entry.is_string()) {
    const auto& text = entry.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() &&
             entry[1].is_string()) {
    return {entry[0].get<std::string>(), entry[1].get<std::string>()};
  }
  HEADLENS_FAIL(ConfigError, "[{}] merges[{}], expected \"a b\" or [\"a\", \"b\"], got {}", where,
                index, describe_json(entry));
}

uint32_t merge_part(const Vocab& vocab, const std::string& token, size_t index,
                    const std::string& where) {
  const std::optional<int64_t> id = vocab.id(token);
  HEADLENS_CHECK(ConfigError, id.has_value(),
                 "[{}] merges[{}], expected tokens of the vocabulary, got \"{}\"", where, index,
                 token);
  return static_cast<uint32_t>(*id);
}

MergeTable read_merges(const JsonFields& fields, const Vocab& vocab, size_t prefix_size,
                       const std::string& where) {
  const nlohmann::json* list = fields.find("merges");
  HEADLENS_CHECK(ConfigError, list != nullptr && list->is_array(),
                 "[{}] key 'merges', expected an array, got {}", where,
                 list == nullptr ? "nothing" : describe_json(*list));
  std::vector<std::pair<uint64_t, Merge>> merges;
  merges.reserve(list->size());
  uint32_t rank = 0;
  for (size_t i = 0; i < list->size(); ++i) {
    const nlohmann::json& entry = (*list)[i];
    const bool header =
        entry.is_string() && entry.get_ref<const std::string&>().starts_with("#version");
    if (header) continue;
    const auto [left, right] = merge_pair(entry, i, where);
    const uint32_t left_id = merge_part(vocab, left, i, where);
    const uint32_t right_id = merge_part(vocab, right, i, where);
    const std::string whole = left + right.substr(std::min(prefix_size, right.size()));
    merges.emplace_back(MergeTable::key(left_id, right_id),
                        Merge{rank++, merge_part(vocab, whole, i, where)});
  }
  return MergeTable(merges);
}

void check_dropout(const JsonFields& fields, const std::string& where) {
  const auto dropout = fields.optional<double>("dropout", 0);
  HEADLENS_CHECK(ConfigError, dropout == 0,
                 "[{}] key 'dropout', expected none (ids would be random), got {}", where, dropout);
}

/// A pair of neighbours that may merge, in the order of the heap.
struct Candidate {
  uint32_t rank;
  uint32_t position;  // of the left symbol
  uint32_t id;
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

}  // namespace

MergeTable::MergeTable(const std::vector<std::pair<uint64_t, Merge>>& merges) {
  const size_t size = std::bit_ceil(std::max<size_t>(16, merges.size() * 2));
  shift_ = 64 - std::countr_zero(size);
  slots_.resize(size);
  for (const auto& [key, merge] : merges) {
    size_t i = home(key);
    while (slots_[i].used && slots_[i].key != key) i = (i + 1) & (size - 1);
    slots_[i] = {key, merge, true};
  }
}

const Merge* MergeTable::find(uint32_t left, uint32_t right) const {
  const uint64_t wanted = key(left, right);
  for (size_t i = home(wanted); slots_[i].used; i = (i + 1) & (slots_.size() - 1)) {
    if (slots_[i].key == wanted) return &slots_[i].merge;
  }
  return nullptr;
}

bool WordCache::find(std::string_view word, std::vector<int64_t>& ids) const {
  const Shard& shard = shards_[shard_of(word)];
  const std::lock_guard lock(shard.mutex);
  const auto it = shard.words.find(word);
  if (it == shard.words.end()) return false;
  ids.insert(ids.end(), it->second.begin(), it->second.end());
  return true;
}

void WordCache::insert(std::string_view word, const int64_t* ids, size_t count) {
  Shard& shard = shards_[shard_of(word)];
  constexpr size_t kEntry = 160;  // bytes of a node, its place in the table and the heap's rounding
  const size_t bytes = kEntry + word.size() + count * sizeof(int64_t);
  const std::lock_guard lock(shard.mutex);
  if (shard.bytes + bytes > kMaxBytes / kShards) {
    shard.words.clear();
    shard.bytes = 0;
  }
  if (shard.words.try_emplace(std::string(word), ids, ids + count).second) shard.bytes += bytes;
}

size_t WordCache::bytes() const {
  size_t sum = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    sum += shard.bytes;
  }
  return sum;
}

BpeModel::BpeModel(Vocab vocab, BpeOptions options, MergeTable merges, std::string where)
    : WordModel(std::move(vocab)),
      options_(std::move(options)),
      merges_(std::move(merges)),
      where_(std::move(where)) {
  if (options_.unk_token) unk_id_ = this->vocab().id(*options_.unk_token);
  for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    const std::optional<int64_t> id = this->vocab().id(fmt::format("<0x{:02X}>", byte));
    if (id) byte_ids_[byte] = static_cast<uint32_t>(*id);
  }
  cuts_ = may_cut_at_marks();
}

/// Without a pre-tokenizer a "word" is a whole text. If no merge makes a token that has the mark
/// behind another character, nothing ever merges across such a place, and the two sides can be
/// encoded apart. The mark must be known, lest an unknown one fuses with what is before it.
bool BpeModel::may_cut_at_marks() const {
  return !options_.ignore_merges && options_.continuing_subword_prefix.empty() &&
         options_.end_of_word_suffix.empty() && vocab().id(kSpaceMark) &&
         !merges_.any([this](const Merge& m) { return has_inner_mark(*vocab().token(m.id)); });
}

void BpeModel::encode(std::string_view word, std::vector<int64_t>& ids) const {
  if (!cuts_) return encode_chunk(word, ids);
  size_t begin = 0;
  for (size_t i = word.find(kSpaceMark, 1); i != std::string_view::npos;
       i = word.find(kSpaceMark, i + 1)) {
    const std::string_view chunk = word.substr(begin, i - begin);
    if (chunk.ends_with(kSpaceMark)) continue;
    encode_chunk(chunk, ids);
    begin = i;
  }
  encode_chunk(word.substr(begin), ids);
}

void BpeModel::encode_chunk(std::string_view chunk, std::vector<int64_t>& ids) const {
  if (options_.ignore_merges) {
    if (const std::optional<int64_t> whole = vocab().id(chunk)) {
      ids.push_back(*whole);
      return;
    }
  }
  const bool cached = chunk.size() < kLongestCachedWord;
  if (cached && cache_.find(chunk, ids)) return;
  thread_local std::vector<uint32_t> symbols;
  symbols.clear();
  split_symbols(chunk, symbols);
  symbols.size() <= kLongestScan ? merge_short(symbols) : merge_long(symbols);
  const size_t before = ids.size();
  ids.insert(ids.end(), symbols.begin(), symbols.end());
  if (cached) cache_.insert(chunk, ids.data() + before, ids.size() - before);
}

bool BpeModel::append_bytes(std::string_view piece, std::vector<uint32_t>& symbols) const {
  const auto id_of = [this](char c) { return byte_ids_[static_cast<uint8_t>(c)]; };
  if (!std::all_of(piece.begin(), piece.end(), id_of)) return false;
  for (const char c : piece) symbols.push_back(*id_of(c));
  return true;
}

void BpeModel::split_symbols(std::string_view word, std::vector<uint32_t>& symbols) const {
  std::string spelled;
  bool unknown_waits = false;  // an unknown's id is appended late, so that its neighbours can fuse
  const auto flush_unknown = [&] {
    if (unknown_waits) symbols.push_back(static_cast<uint32_t>(*unk_id_));
    unknown_waits = false;
  };
  for (size_t i = 0; i < word.size();) {
    const size_t start = i;
    next_code_point(word, i);
    std::string_view piece = word.substr(start, i - start);
    if ((start > 0 && !options_.continuing_subword_prefix.empty()) ||
        (i == word.size() && !options_.end_of_word_suffix.empty())) {
      spelled = start > 0 ? options_.continuing_subword_prefix : "";
      spelled += piece;
      if (i == word.size()) spelled += options_.end_of_word_suffix;
      piece = spelled;
    }
    if (const std::optional<int64_t> id = vocab().id(piece)) {
      flush_unknown();
      symbols.push_back(static_cast<uint32_t>(*id));
    } else if (options_.byte_fallback && append_bytes(piece, symbols)) {
      // A waiting unknown goes on waiting behind the bytes: the reference does so too.
    } else if (options_.unk_token) {  // without one, unknown characters vanish
      HEADLENS_CHECK(ConfigError, unk_id_.has_value(),
                     "[{}] unk_token, expected a token of the vocabulary, got \"{}\"", where_,
                     *options_.unk_token);
      if (!options_.fuse_unk) flush_unknown();
      unknown_waits = true;
    }
  }
  flush_unknown();
}

void BpeModel::merge_short(std::vector<uint32_t>& symbols) const {
  std::array<Merge, kLongestScan> pairs;  // pairs[i]: what symbols i and i + 1 become
  const auto look_up = [&](size_t i) {
    const Merge* merge = merges_.find(symbols[i], symbols[i + 1]);
    pairs[i] = merge == nullptr ? Merge{kNever, 0} : *merge;
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i) look_up(i);
  while (symbols.size() > 1) {
    const size_t count = symbols.size() - 1;
    size_t best = 0;
    for (size_t i = 1; i < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == kNever) return;
    symbols[best] = pairs[best].id;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    std::copy(pairs.begin() + best + 1, pairs.begin() + count, pairs.begin() + best);
    if (best + 1 < symbols.size()) look_up(best);
    if (best > 0) look_up(best - 1);
  }
}

void BpeModel::merge_long(std::vector<uint32_t>& symbols) const {
  const auto count = static_cast<uint32_t>(symbols.size());
  std::vector<uint32_t> next(count), previous(count);
  std::vector<bool> gone(count);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto offer = [&](uint32_t i) {
    if (next[i] == count) return;
    const Merge* merge = merges_.find(symbols[i], symbols[next[i]]);
    if (merge != nullptr) heap.push({merge->rank, i, merge->id});
  };
  for (uint32_t i = 0; i < count; ++i) {
    next[i] = i + 1;
    previous[i] = i == 0 ? count : i - 1;
  }
  for (uint32_t i = 0; i < count; ++i) offer(i);
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    const uint32_t left = best.position;
    if (gone[left] || next[left] == count) continue;
    const uint32_t right = next[left];
    const Merge* merge = merges_.find(symbols[left], symbols[right]);
    if (merge == nullptr || merge->id != best.id) continue;  // an outdated candidate
    symbols[left] = best.id;
    gone[right] = true;
    next[left] = next[right];
    if (next[right] != count) previous[next[right]] = left;
    offer(left);
    if (previous[left] != count) offer(previous[left]);
  }
  size_t kept = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (!gone[i]) symbols[kept++] = symbols[i];
  }
  symbols.resize(kept);
}

std::unique_ptr<const WordModel> read_bpe_model(const JsonFields& fields, Vocab vocab,
                                                const std::string& where) {
  BpeOptions options;
  if (fields.has("unk_token")) options.unk_token = fields.required<std::string>("unk_token");
  options.continuing_subword_prefix = fields.optional<std::string>("continuing_subword_prefix", "");
  options.end_of_word_suffix = fields.optional<std::string>("end_of_word_suffix", "");
  options.fuse_unk = fields.optional<bool>("fuse_unk", false);
  options.byte_fallback = fields.optional<bool>("byte_fallback", false);
  options.ignore_merges = fields.optional<bool>("ignore_merges", false);
  check_dropout(fields, where);
  MergeTable merges = read_merges(fields, vocab, options.continuing_subword_prefix.size(), where);
  return std::make_unique<BpeModel>(std::move(vocab), std::move(options), std::move(merges), where);
}

}  // namespace headlens
