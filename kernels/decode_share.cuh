// headlens/kernels: which heads and keys a block of decoding attention has.
#pragma once

#include "decode_attention.h"
#include "decode_score.cuh"

namespace headlens {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kGroup = kDecodeHeadGroup;
constexpr int kMaxHead = 256, kMaxPairs = kMaxHead / 2;
constexpr int kUnroll = 3;      // keys of a lane group under way
constexpr int kLeastKeys = 32;  // of a split: fewer cost more to join than to read
constexpr int kMaxSplits = 64;

/// A block's share: which heads, which keys.
struct Share {
  int slot, row, kv, group, split, first_head, count;
  int64_t position, place, from, to;  // keys from .. to - 1
  int splits;                         // that have keys
};

/// Which heads: all that is known without the position.
__device__ __forceinline__ Share heads_of(const DecodeAttentionParams& p, int groups, int splits) {
  Share s{};
  s.split = blockIdx.x % splits;
  s.slot = blockIdx.x / splits;
  s.row = s.slot / (groups * p.kv_heads);
  s.kv = s.slot / groups % p.kv_heads, s.group = s.slot % groups;
  const int per_kv = p.heads / p.kv_heads;
  s.first_head = s.kv * per_kv + s.group * kGroup;
  s.count = min(kGroup, per_kv - s.group * kGroup);
  return s;
}

/// Which keys.
__device__ __forceinline__ void find_keys(const DecodeAttentionParams& p, Share& s, int splits) {
  s.position = *p.position;
  const int64_t padding = p.first != nullptr ? p.first[s.row] : 0;
  s.place = max(s.position - padding, int64_t{0});
  const int64_t low = first_seen(s.position, padding, p.window), keys = s.position + 1 - low;
  const int64_t span = max((keys + splits - 1) / splits, int64_t{kLeastKeys});
  s.splits = static_cast<int>((keys + span - 1) / span);
  s.from = low + s.split * span;
  s.to = min(s.from + span, s.position + 1);
}

}  // namespace headlens
