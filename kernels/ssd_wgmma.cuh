// headlens/kernels: Hopper's warpgroup products for the Mamba-2 scan (sm_90a).
#pragma once

#include "common/mma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HEADLENS_SSD_WGMMA 1
#endif

namespace headlens {

/// Orders this thread's writes to shared memory before what the matrix units read after a barrier.
__device__ __forceinline__ void fence_for_warpgroup() {
#ifdef HEADLENS_SSD_WGMMA
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

#ifdef HEADLENS_SSD_WGMMA

/// A tile with rows of 128 bytes, see swizzled(), from a multiple of 8 rows on: [row][k] with k
/// from the address's column on, or, transposed, [k][column] with k from the address's row on.
__device__ __forceinline__ uint64_t warpgroup_tile(uint32_t address) {
  return (address & 0x3ffff) >> 4 | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

/// Before the first product after registers that it reads or adds to were written.
__device__ __forceinline__ void warpgroup_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// Closes a group of products.
__device__ __forceinline__ void warpgroup_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most kPending groups are under way.
template <int kPending>
__device__ __forceinline__ void warpgroup_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Operands: the floats of d, then a, b, whether to add to d, which of a and b are transposed.
#define HEADLENS_TILE(t) "+f"(t[0]), "+f"(t[1]), "+f"(t[2]), "+f"(t[3])
#define HEADLENS_WARPGROUP_32(type)                                                        \
  asm volatile(                                                                            \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"                                         \
      "wgmma.mma_async.sync.aligned.m64n32k16.f32." type "." type                          \
      " {"                                                                                 \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"               \
      "}, %16, %17, p, 1, 1, %19, %20;\n}\n"                                               \
      : HEADLENS_TILE(d[0]), HEADLENS_TILE(d[1]), HEADLENS_TILE(d[2]), HEADLENS_TILE(d[3]) \
      : "l"(a), "l"(b), "r"(int(add)), "n"(kTransposedA), "n"(kTransposedB))

#define HEADLENS_WARPGROUP_64(type)                                                         \
  asm volatile(                                                                             \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                          \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                           \
      " {"                                                                                  \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "              \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, "              \
      "%30, %31"                                                                            \
      "}, %32, %33, p, 1, 1, %35, %36;\n}\n"                                                \
      : HEADLENS_TILE(d[0]), HEADLENS_TILE(d[1]), HEADLENS_TILE(d[2]), HEADLENS_TILE(d[3]), \
        HEADLENS_TILE(d[4]), HEADLENS_TILE(d[5]), HEADLENS_TILE(d[6]), HEADLENS_TILE(d[7])  \
      : "l"(a), "l"(b), "r"(int(add)), "n"(kTransposedA), "n"(kTransposedB))

#define HEADLENS_WARPGROUP_64_REGS(type)                                                    \
  asm volatile(                                                                             \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"                                          \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                           \
      " {"                                                                                  \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "              \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, "              \
      "%30, %31"                                                                            \
      "}, {%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}\n"                                    \
      : HEADLENS_TILE(d[0]), HEADLENS_TILE(d[1]), HEADLENS_TILE(d[2]), HEADLENS_TILE(d[3]), \
        HEADLENS_TILE(d[4]), HEADLENS_TILE(d[5]), HEADLENS_TILE(d[6]), HEADLENS_TILE(d[7])  \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(add)), "n"(kTransposedB))

/// d [64 x 8 kTiles] = A B^T (+ d) over a warpgroup, A [64 x 16] and B [8 kTiles x 16] in shared
/// memory; warp w has rows 16 w .., as D of mma().
template <typename T, int kTransposedA, int kTransposedB, int kTiles>
__device__ __forceinline__ void warpgroup_mma(float (&d)[kTiles][4], uint64_t a, uint64_t b,
                                              bool add) {
  static_assert(kTiles == 4 || kTiles == 8);
  if constexpr (kTiles == 4) {
    if constexpr (std::is_same_v<T, __half>) {
      HEADLENS_WARPGROUP_32("f16");
    } else {
      HEADLENS_WARPGROUP_32("bf16");
    }
  } else {
    if constexpr (std::is_same_v<T, __half>) {
      HEADLENS_WARPGROUP_64("f16");
    } else {
      HEADLENS_WARPGROUP_64("bf16");
    }
  }
}

/// The same with A in registers, 16 rows a warp, as in mma().
template <typename T, int kTransposedB>
__device__ __forceinline__ void warpgroup_mma(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b,
                                              bool add) {
  if constexpr (std::is_same_v<T, __half>) {
    HEADLENS_WARPGROUP_64_REGS("f16");
  } else {
    HEADLENS_WARPGROUP_64_REGS("bf16");
  }
}

#undef HEADLENS_WARPGROUP_64_REGS
#undef HEADLENS_WARPGROUP_64
#undef HEADLENS_WARPGROUP_32
#undef HEADLENS_TILE
#endif  // HEADLENS_SSD_WGMMA

}  // namespace headlens
