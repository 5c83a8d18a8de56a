// headlens/model: byte-pair encoding of one word.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/tokenizer_words.h"

namespace headlens {

/// What a pair of neighbouring tokens becomes, and how early: lower ranks merge first.
struct Merge {
  uint32_t rank = 0;
  uint32_t id = 0;
};

/// A fixed hash table from a pair of ids to its merge.
class MergeTable {
 public:
  /// Later entries replace earlier ones of the same pair.
  explicit MergeTable(const std::vector<std::pair<uint64_t, Merge>>& merges);

  static uint64_t key(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }
  const Merge* find(uint32_t left, uint32_t right) const;
  /// Whether holds(merge) for one of them.
  template <typename Holds>
  bool any(Holds holds) const {
    return std::any_of(slots_.begin(), slots_.end(),
                       [&](const Slot& slot) { return slot.used && holds(slot.merge); });
  }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;
    bool used = false;
  };
  size_t home(uint64_t key) const { return (key * 0x9E3779B97F4A7C15u) >> shift_; }

  int shift_;
  std::vector<Slot> slots_;
};

/// A memory of words already encoded, of 8 MiB at most, shared by threads.
class WordCache {
 public:
  static constexpr size_t kMaxBytes = 8 << 20;

  /// Appends the ids of the word if they are known.
  bool find(std::string_view word, std::vector<int64_t>& ids) const;
  /// A word that no longer fits takes the place of all others in its shard.
  void insert(std::string_view word, const int64_t* ids, size_t count);
  /// What the words take now, their ids and the table's entries included.
  size_t bytes() const;

 private:
  static constexpr size_t kShards = 16;
  struct Shard {
    mutable std::mutex mutex;
    StringMap<std::vector<int64_t>> words;
    size_t bytes = 0;
  };
  static size_t shard_of(std::string_view word) { return StringHash()(word) >> 7 & (kShards - 1); }

  std::array<Shard, kShards> shards_;
};

/// The model's settings, as tokenizer.json names them.
struct BpeOptions {
  std::optional<std::string> unk_token;
  std::string continuing_subword_prefix;
  std::string end_of_word_suffix;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
};

/// Byte-pair encoding (arXiv 1508.07909) over characters, which a byte-level pre-tokenizer has made
/// stand for bytes.
class BpeModel : public WordModel {
 public:
  BpeModel(Vocab vocab, BpeOptions options, MergeTable merges, std::string where);

  void encode(std::string_view word, std::vector<int64_t>& ids) const override;

 private:
  bool may_cut_at_marks() const;
  void encode_chunk(std::string_view chunk, std::vector<int64_t>& ids) const;
  void split_symbols(std::string_view word, std::vector<uint32_t>& symbols) const;
  bool append_bytes(std::string_view piece, std::vector<uint32_t>& symbols) const;
  void merge_short(std::vector<uint32_t>& symbols) const;
  void merge_long(std::vector<uint32_t>& symbols) const;

  BpeOptions options_;
  MergeTable merges_;
  std::optional<int64_t> unk_id_;
  std::string where_;
  bool cuts_ = false;  // words before each run of space marks, which changes no id
  std::array<std::optional<uint32_t>, 256> byte_ids_;  // of "<0x00>" ... "<0xFF>"
  mutable WordCache cache_;
};

/// Reads a model of type BPE. Throws ConfigError.
std::unique_ptr<const WordModel> read_bpe_model(const JsonFields& fields, Vocab vocab,
                                                const std::string& where);

}  // namespace headlens
